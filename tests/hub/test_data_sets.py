"""Data sets are pulled from a hub as models are: chosen files, verified, and not asked for twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault

from fairground.errors import DownloadError, UnknownModel
from fairground.hub.data_sets import pull_data

FILES = {
    "README.md": b"# Data",
    "data/train-00000-of-00001.parquet": b"learned" * 100,
    "data/train_prefs-00000-of-00001.parquet": b"preferred" * 100,
    "data/test-00000-of-00001.parquet": b"measured" * 100,
}


@pytest.fixture
def data(hub: FakeHub) -> FakeHub:
    hub.publish("datasets/org/talks", dict(FILES), lfs=tuple(name for name in FILES if name.endswith("parquet")))
    return hub


def files(folder: Path) -> set[str]:
    return {name for name in FILES if (folder / name).exists()}


def test_what_is_for_training_is_taken(data: FakeHub, home: Path) -> None:
    folder = pull_data("hf:org/talks")
    assert home in folder.parents
    assert files(folder) == {name for name in FILES if "train" in name}
    assert all((folder / name).read_bytes() == FILES[name] for name in files(folder))
    asked = len(data.seen)
    assert pull_data("hf:org/talks") == folder
    assert len(data.seen) == asked, "it is here already"


def test_a_pattern_chooses(data: FakeHub) -> None:
    folder = pull_data("hf:org/talks@main:data/train_prefs-*.parquet")
    assert files(folder) == {"data/train_prefs-00000-of-00001.parquet"}
    assert files(pull_data("hf:org/talks:*test*")) == {"data/test-00000-of-00001.parquet"}


def test_all_is_taken_where_nothing_says_train(hub: FakeHub) -> None:
    hub.publish("datasets/org/plain", {"a.jsonl": b"{}", "b.txt": b"text", "c.py": b"code"})
    folder = pull_data("hf:org/plain")
    assert {path.name for path in folder.iterdir()} >= {"a.jsonl", "b.txt"}
    assert not (folder / "c.py").exists()


def test_it_is_refused_with_a_sentence(data: FakeHub, home: Path) -> None:
    with pytest.raises(DownloadError, match=r"has no file \*\.csv that ends in"):
        pull_data("hf:org/talks:*.csv")
    with pytest.raises(UnknownModel, match="is not a data set on a hub"):
        pull_data("hf:talks")
    with pytest.raises(DownloadError, match="no such repository"):
        pull_data("hf:org/nothing")
    data.fault("/lfs/datasets--org--talks/data/train-00000-of-00001.parquet", Fault(body=b"forged!" * 100))
    with pytest.raises(DownloadError, match="hash"):
        pull_data("hf:org/talks")
    assert not list((home / "models" / "data").rglob("*.parquet"))
