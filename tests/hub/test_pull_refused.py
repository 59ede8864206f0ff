"""Pulling from a hub: everything that is refused, or that goes wrong on the way, and what is said then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fake_hub import FILES, REF, FakeHub, Fault, partial_bytes

from fairground.errors import DownloadError
from fairground.hub.installed import locate, remove
from fairground.hub.pull import pull


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("longer", [0, 100])
def test_wrong_bytes_are_deleted(model: FakeHub, home: Path, file: str, longer: int) -> None:
    model.fault(file, Fault())
    model.fault(file, Fault(body=b"x" * (len(FILES[file]) + longer)))
    with pytest.raises(DownloadError, match=rf"{file} .*does not match the hash.*deleted; pull again"):
        pull(REF)
    assert locate(REF) is None
    assert partial_bytes(home) == 0
    assert (pull(REF) / file).read_bytes() == FILES[file]


def test_the_token_goes_to_the_hub_and_nowhere_else(
    model: FakeHub, monkeypatch: pytest.MonkeyPatch, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", model.token)
    model.fault("model.safetensors", Fault(status=503))
    notices: list[str] = []
    folder = pull(REF, notice=notices.append)
    assert {seen.headers.get("authorization") for seen in model.seen if seen.host == "hub"} == {f"Bearer {model.token}"}
    storage = [seen for seen in model.seen if seen.host == "storage"]
    assert storage
    assert all(model.token not in str(seen) for seen in storage)
    shown = "".join(notices) + "".join(capfd.readouterr()) + (folder / "fairground.json").read_text()
    assert model.token not in shown


def test_an_impossible_token_is_refused_unseen(model: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_one\nhf_two")
    with pytest.raises(DownloadError, match="HF_TOKEN holds characters") as error:
        pull(REF)
    assert "hf_one" not in str(error.value)
    assert not model.seen


def test_a_gated_model_says_what_to_do_and_opens_with_a_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("org/model", dict(FILES), lfs=("model.safetensors",), gated=True)
    with pytest.raises(DownloadError, match=rf"gated.*accept its licence at {hub.endpoint}/org/model, set HF_TOKEN"):
        pull(REF)
    assert locate(REF) is None
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert pull(REF).is_dir()


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (403, {"X-Error-Code": "GatedRepo"}, "gated.*accept its licence"),
        (403, {}, "asks for a token.*accept its licence at"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "no such revision.*check the name and the revision"),
        (418, {}, "answered 418.*check HF_ENDPOINT"),
        (302, {"Location": "/api/models/org/model/revision/main"}, "redirects without an end"),
        (302, {"Location": "http://127.0.0.1:port"}, "redirects without an end"),
        (302, {}, "answered 302"),
    ],
)
def test_a_refusal_is_one_sentence(model: FakeHub, status: int, headers: dict[str, str], says: str) -> None:
    for _ in range(6):
        model.fault("/revision/main", Fault(status=status, headers=headers))
    with pytest.raises(DownloadError, match=says) as error:
        pull(REF)
    assert "\n" not in str(error.value)


def test_a_missing_repository(hub: FakeHub) -> None:
    with pytest.raises(DownloadError, match=r"no such repository.*HF_TOKEN if it is private"):
        pull("hf:org/missing")


def test_a_busy_hub_is_asked_again_when_it_says(model: FakeHub, naps: list[float]) -> None:
    model.fault("/revision/main", Fault(status=429, headers={"Retry-After": "7"}))
    model.fault("/revision/main", Fault(status=503))
    model.fault("/revision/main", Fault(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    model.fault("/revision/main", Fault(status=429, headers={"Retry-After": "soon"}))
    notices: list[str] = []
    pull(REF, notice=notices.append)
    assert naps == [7.0, 1.0, 0.0, 4.0]
    assert "answered 429; trying again in 7.0 s" in notices[0]


def test_patience_ends(model: FakeHub, naps: list[float]) -> None:
    for _ in range(5):
        model.fault("/revision/main", Fault(status=503))
    with pytest.raises(DownloadError, match=r"kept failing \(127.0.0.1 answered 503\)"):
        pull(REF)
    assert naps == [0.5, 1.0, 2.0, 4.0]
    model.fault("/revision/main", Fault(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(DownloadError, match="asks to wait 3600 s"):
        pull(REF)


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[]", b'{"sha": 1, "siblings": []}', b'{"siblings": [1]}'])
def test_what_is_no_hub_is_named_so(model: FakeHub, body: bytes) -> None:
    model.fault("/revision/main", Fault(body=body))
    with pytest.raises(DownloadError, match="as a hub does"):
        pull(REF)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "a/../../x", "/etc/passwd", "..\\x", "C:x", "C:/x", "a//b", "./x", "x\n"]
)
def test_a_name_that_leaves_the_folder_condemns_the_repository(hub: FakeHub, home: Path, name: str) -> None:
    hub.publish("org/model", FILES | {name: b"evil"})
    with pytest.raises(DownloadError, match="lies outside its own folder"):
        pull(REF)
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_pickles_need_the_flag(hub: FakeHub) -> None:
    hub.publish("org/model", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(DownloadError, match=r"only as pickles \(pytorch_model.bin\).*--allow-pickle"):
        pull(REF)
    assert (pull(REF, allow_pickle=True) / "pytorch_model.bin").read_bytes() == b"pickle"


def test_one_gguf_is_a_file_and_several_are_refused(hub: FakeHub) -> None:
    hub.publish("org/model", {"model.Q4_0.gguf": b"GGUF", "README.md": b""})
    assert pull(REF).name == "model.Q4_0.gguf"
    hub.publish("org/many", {"a.gguf": b"GGUF", "b.gguf": b"GGUF"})
    with pytest.raises(DownloadError, match=r"holds 2 \.gguf files"):
        pull("hf:org/many")
    hub.publish("org/none", {"config.json": b"{}"})
    with pytest.raises(DownloadError, match="no weights that Fairground reads"):
        pull("hf:org/none")


def test_offline_and_no_network(model: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        pull(REF)
    assert not model.seen
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"could not be reached .*check the network, or set HF_ENDPOINT"):
        pull(REF)
    monkeypatch.setenv("HF_ENDPOINT", "ftp://127.0.0.1")
    with pytest.raises(DownloadError, match="HF_ENDPOINT is not an address"):
        pull(REF)


def test_a_full_disk_is_seen_before_and_during(model: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, 1 << 30, 1000))
        with pytest.raises(DownloadError, match=r"needs 1 MB more in .*, but 0 MB are free"):
            pull(REF)
    assert not [seen for seen in model.seen if seen.host == "storage"]

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DownloadError, match=r"because the disk is full.*free some space"):
            pull(REF)
    assert locate(REF) is None
    assert pull(REF).is_dir()


def test_a_state_folder_that_cannot_be_written(model: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FAIRGROUND_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="set FAIRGROUND_HOME to one that you may write"):
        pull(REF)


def test_a_folder_that_fairground_did_not_make_is_left_alone(model: FakeHub, home: Path) -> None:
    mine = home / "models/hf/org--model@main/notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(DownloadError, match="will not replace it"):
        pull(REF)
    with pytest.raises(DownloadError, match="delete it by hand"):
        remove(REF)
    assert mine.read_text() == "mine"
