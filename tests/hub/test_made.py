"""Models made here are known by their own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairground.errors import UnknownModel
from fairground.hub.home import home
from fairground.hub.made import keep_made, made_models
from fairground.hub.reference import parse


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRGROUND_HOME", str(tmp_path / "home"))


def test_a_made_model_is_named_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    with pytest.raises(UnknownModel):
        parse("mine")
    keep_made("mine", folder)
    keep_made("mine", folder)
    named = parse("mine#int8")
    assert (named.name, named.kind, named.target, named.precision) == ("mine#int8", "path", str(folder), "int8")
    assert made_models() == {"mine": folder}


def test_a_name_is_nobody_elses(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    keep_made("mine", one)
    for name in ("mine", "smollm2", "a/b", "", "-x", "a#b"):
        with pytest.raises(UnknownModel):
            keep_made(name, other)
    assert made_models() == {"mine": one}


def test_a_folder_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    keep_made("mine", folder)
    folder.rmdir()
    with pytest.raises(UnknownModel, match="not there any more"):
        parse("mine")
    (home() / "made.json").write_text("[1]")
    with pytest.raises(UnknownModel, match=r"made\.json cannot be read"):
        parse("smollm2")
