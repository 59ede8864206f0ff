"""Keys: only hashes are kept, and a server that wants them answers nobody else."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest
from command import Command
from fastapi.testclient import TestClient
from scripted import Scripted

from fairground.errors import RequestError
from fairground.serving.app import create_app
from fairground.serving.keys import Gate, add_key, read_keys, remove_key
from fairground.serving.running import Limits


def test_only_the_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    key, other = add_key(path, "alice"), add_key(path, "bob")
    assert key != other
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [known.name for known in read_keys(path)] == ["alice", "bob"]
    assert read_keys(path)[0].sha256 == hashlib.sha256(key.encode()).hexdigest()
    gate = Gate(read_keys(path))
    assert gate.owner(f"Bearer {key}") == "alice"
    assert gate.owner(f"bearer {other}") == "bob"
    for wrong in ("", "Bearer", "Bearer ", key, f"Basic {key}", f"Bearer {key}x", f"Bearer {key[:-1]}"):
        assert gate.owner(wrong) is None
    remove_key(path, "alice")
    assert Gate(read_keys(path)).owner(f"Bearer {key}") is None
    assert list(path.parent.iterdir()) == [path]


def test_keys_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "alice")
    before = path.read_bytes()
    for name, said in (("alice", "has a key already"), (" ", "needs a name"), ("a\n", "needs a name")):
        with pytest.raises(RequestError, match=said):
            add_key(path, name)
    with pytest.raises(RequestError, match="no key of bob"):
        remove_key(path, "bob")
    assert path.read_bytes() == before
    path.write_text("[1]")
    with pytest.raises(RequestError, match="not a file of keys"):
        read_keys(path)


def test_a_server_with_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, "alice")
    client = TestClient(
        create_app({"scripted": Scripted()}, gate=Gate(read_keys(path))), base_url="http://a.school.example"
    )
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200
    for address in ("/v1/models", "/metrics", "/openapi.json", "/v1/nothing"):
        for headers in ({}, {"authorization": "Bearer fg-guess"}, {"x-api-key": key}, {"authorization": key}):
            answer = client.get(address, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert "authorization: Bearer" in answer.json()["error"]["message"]
            assert answer.headers["www-authenticate"] == "Bearer"
    good = {"authorization": f"Bearer {key}"}
    assert client.get("/v1/models", headers=good).json()["data"][0]["id"] == "scripted"
    assert client.get("/v1/nothing", headers=good).status_code == 404


def test_a_key_that_asks_too_often(tmp_path: Path) -> None:
    """429 and when to come again, for that key alone; watchdogs are not counted."""
    path = tmp_path / "keys.json"
    keys = {name: {"authorization": f"Bearer {add_key(path, name)}"} for name in ("alice", "bob")}
    client = TestClient(
        create_app({"scripted": Scripted()}, gate=Gate(read_keys(path)), limits=Limits(per_minute=3)),
        base_url="http://a.school.example",
    )
    assert [client.get("/v1/models", headers=keys["alice"]).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = client.get("/v1/models", headers=keys["alice"])
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert client.get("/v1/models", headers=keys["bob"]).status_code == 200
    assert {client.get("/ready").status_code for _ in range(5)} == {200}


def test_the_commands(command: Command) -> None:
    assert "There is no key yet" in command("keys", "list").out
    key = command("keys", "add", "alice").out.strip()
    assert key.startswith("fg-")
    assert json.loads(command("keys", "list", "--json").out)[0]["name"] == "alice"
    command("keys", "add", "alice").refused("has a key already")
    assert "alice" in command("keys", "remove", "alice").out
    command("keys", "remove", "alice").refused("no key of alice")
    command("serve", "uniform", "--host", "0.0.0.0").refused("no key yet", "fairground keys add")
    command("serve", "uniform", "--host", "0.0.0.0", "--no-require-key").refused("not served without keys")
    command("serve", "uniform", "--require-key").refused("no key yet")
