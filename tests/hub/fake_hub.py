"""A Hugging Face hub on the loopback, with a second server as its storage host, and faults to order.

It imitates what the real protocol does: file sizes, LFS hashes and git blob ids in the listing; a relative redirect for
small files and an absolute one to another origin for LFS files; ranges; error codes in `X-Error-Code`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REF = "hf:org/model"
WEIGHTS = b"".join(hashlib.sha512(b"%d" % i).digest() for i in range(1 << 14))  # 1 MiB
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}" * 500,
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle",
    "onnx/model.safetensors": b"another program's",
    "README.md": b"# Model",
}
WANTED = {"config.json", "tokenizer.json", "model.safetensors"}


@dataclass
class Fault:
    """What goes wrong, once, with the next GET of a path that ends as given."""

    status: int | None = None  # answer this instead
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # close the connection after so many bytes of the body
    stall_after: int | None = None  # send so many bytes, then wait for `released`
    body: bytes | None = None  # send these bytes instead
    ignore_range: bool = False
    released: threading.Event = field(default_factory=threading.Event)


@dataclass
class Seen:
    """A request as it came in, and how much of the body went out."""

    host: str  # "hub" or "storage"
    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


@dataclass
class Repo:
    files: dict[str, bytes]
    lfs: frozenset[str]
    gated: bool
    commit: str


def partial_bytes(home: Path) -> int:
    return sum(file.stat().st_size for file in home.rglob("*.part"))


def sha1_of_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub:
    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.seen: list[Seen] = []
        self.faults: dict[str, list[Fault]] = {}
        self.token = "hf_secretOfThisTest"
        self._servers = [self._serve("hub"), self._serve("storage")]
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def _serve(self, host: str) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self, "host": host})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    def close(self) -> None:
        for faults in self.faults.values():
            for fault in faults:
                fault.released.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def publish(self, name: str, files: dict[str, bytes], *, lfs: tuple[str, ...] = (), gated: bool = False) -> Repo:
        commit = hashlib.sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        self.repos[name] = Repo(files, frozenset(lfs), gated, commit)
        return self.repos[name]

    def fault(self, path_end: str, fault: Fault) -> Fault:
        self.faults.setdefault(path_end, []).append(fault)
        return fault

    def take_fault(self, path: str) -> Fault:
        for end, faults in self.faults.items():
            if path.endswith(end) and faults:
                return faults.pop(0)
        return Fault()

    def body_requests(self, path_end: str) -> list[Seen]:
        """The GETs that were for a file's bytes, redirects left out."""
        return [seen for seen in self.seen if seen.method == "GET" and seen.path.endswith(path_end)]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    host: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.record = Seen(self.host, self.command, path, {k.lower(): v for k, v in self.headers.items()})
        self.hub.seen.append(self.record)
        fault = self.hub.take_fault(path) if self.command == "GET" else Fault()
        if fault.status is not None:
            self.reply(fault.status, fault.body or b"", fault.headers)
        elif self.host == "storage":
            _, _, name, file = path.split("/", 3)
            self.serve_file(self.hub.repos[name.replace("--", "/")].files[file], {}, fault)
        elif "/tree/" in path:
            self.serve_tree(path.removeprefix("/api/models/").partition("/tree/")[0])
        elif path.startswith("/api/models/"):
            self.serve_listing(path.removeprefix("/api/models/"), fault)
        elif path.startswith("/api/datasets/"):
            self.serve_listing("datasets/" + path.removeprefix("/api/datasets/"), fault)
        elif path.startswith("/cache/"):
            repo, file = self.parts(path.removeprefix("/cache/"))
            data = self.hub.repos[repo].files[file]
            etag = sha1_of_blob(data)
            commit = self.hub.repos[repo].commit
            self.serve_file(data, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, fault)
        else:
            self.redirect(path)

    def parts(self, path: str) -> tuple[str, str]:
        """A repository's name, which of a data set has three parts, and what follows it."""
        parts = path.split("/")
        count = 3 if parts[0] == "datasets" else 2
        return "/".join(parts[:count]), "/".join(parts[count:])

    def serve_listing(self, path: str, fault: Fault) -> None:
        name, _, _revision = path.partition("/revision/")
        repo = self.hub.repos.get(name)
        if repo is None:
            # As the real one: who is not signed in is not told whether it exists.
            self.reply(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for file, data in repo.files.items():
            sibling = {"rfilename": file, "size": len(data), "blobId": sha1_of_blob(data)}
            if file in repo.lfs:
                sha256 = hashlib.sha256(data).hexdigest()
                sibling |= {"lfs": {"sha256": sha256, "size": len(data), "pointerSize": 134}}
            siblings.append(sibling)
        answer = {"id": name, "sha": repo.commit, "private": False, "gated": repo.gated, "siblings": siblings}
        self.reply(200, fault.body or json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def serve_tree(self, name: str) -> None:
        """The other listing of the real hub, which huggingface_hub reads and we do not."""
        entries = []
        for file, data in self.hub.repos[name].files.items():
            entry = {"type": "file", "path": file, "size": len(data), "oid": sha1_of_blob(data)}
            if file in self.hub.repos[name].lfs:
                entry |= {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
            entries.append(entry)
        self.reply(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def redirect(self, path: str) -> None:
        name, rest = self.parts(path.lstrip("/"))
        _, _commit, file = rest.split("/", 2)
        repo = self.hub.repos[name]
        if repo.gated and self.record.headers.get("authorization") != f"Bearer {self.hub.token}":
            self.reply(401, b"", {"X-Error-Code": "GatedRepo"})
            return
        data = repo.files[file]
        headers = {"X-Repo-Commit": repo.commit, "X-Linked-Size": str(len(data))}
        if file in repo.lfs:
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(data).hexdigest()}"'
            headers["Location"] = f"{self.hub.storage}/lfs/{name.replace('/', '--')}/{file}?signature=secret"
            self.reply(302, b"", headers)
        else:
            headers["X-Linked-Etag"] = f'"{sha1_of_blob(data)}"'
            headers["Location"] = f"/cache/{name}/{file}"
            self.reply(307, b"", headers)

    def serve_file(self, data: bytes, headers: dict[str, str], fault: Fault) -> None:
        data = data if fault.body is None else fault.body
        status, start = 200, 0
        wanted = self.record.headers.get("range", "")
        if wanted.startswith("bytes=") and not fault.ignore_range:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.reply(status, data[start:], headers, fault)

    def reply(self, status: int, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        self.record.status = status
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = fault or Fault()
        try:
            for part in (body[: fault.stall_after], body[fault.stall_after :] if fault.stall_after else b""):
                part = part if fault.cut_after is None else part[: fault.cut_after]
                self.wfile.write(part)
                self.wfile.flush()
                self.record.sent += len(part)
                if fault.stall_after and not fault.released.wait(10):
                    return
            self.close_connection = fault.cut_after is not None
        except OSError:
            self.close_connection = True
