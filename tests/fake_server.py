"""An OpenAI-compatible server on the loopback that counts to ten over and over, with faults to order.

It imitates what vLLM does: /models with `owned_by`, both endpoints streaming with usage and [DONE], a role before the
first chat token, echo with the prompt's log-probabilities, and /tokenize beside /v1. Switches take each of these away.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = " one two three four five six seven eight nine ten"
KEY = "sk-secretOfThisTest"
END = "<|endoftext|>"


def pieces(text: str) -> list[str]:
    """A tokenizer: what it gives joins to the text."""
    return re.findall(r"<\|endoftext\|>|\s*\w+|\s*[^\w\s]|\s+", text)


def logprob(piece: str) -> float:
    return -(sum(map(ord, piece)) % 97 + 1) / 16


def is_best(piece: str) -> bool:
    return len(piece) % 2 == 0


@dataclass
class Fault:
    """What goes wrong, once, with the next request to write."""

    status: int | None = None  # answer this instead
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "out of order"
    cut_after: int | None = None  # close the connection after so many chunks
    end_after: int | None = None  # end the answer in good order after so many chunks
    raw: str | None = None  # this instead of the first chunk
    stall_after: int | None = None  # after so many chunks, wait for `released`
    silent: bool = False  # not even a status until `released`


@dataclass
class FakeServer:
    key: str | None = None
    chat: bool = True
    completions: bool = True
    echo: bool = True
    echo_written_only: bool = False  # llama.cpp's: an echo with the log-probabilities of the written token alone
    bos: str | None = "<s>"  # put before every prompt; None: nothing is
    end_is_token: bool = True
    token_pieces: bool = True  # False: pieces spelt as SentencePiece has them
    tokenize: bool = True
    logprobs: bool = True
    usage: bool = True
    owner: str = "vllm"
    stops_after: int | None = None  # tokens, unless told to ignore the end
    per_chunk: int = 1
    finish: str | None = None
    reasoning: int = 0  # chunks of reasoning before the answer
    refuses: tuple[str, ...] = ()
    delay_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    faults_spare_one_token: bool = False  # as it is asked for when a model is opened
    seen: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    broken_pipes: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    most_running: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"fake": self}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def reference(self) -> str:
        return f"openai:counter@{self.base}"

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body, _ in self.seen if where == path]

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.fake.seen.append((self.path, {}, dict(self.headers)))
        if self.path == "/v1/models":
            entry = {"id": "counter", "owned_by": self.fake.owner, "max_model_len": 4096}
            return self._json(200, {"data": [entry, {"id": "other"}]})
        return self._error(404, "not found")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake = self.fake
        fake.seen.append((self.path, body, dict(self.headers)))
        if fake.key is not None and self.headers["Authorization"] != f"Bearer {fake.key}":
            return self._error(401, f"Incorrect API key provided: {self.headers['Authorization']}")
        if self.path == "/tokenize" and fake.tokenize:
            return self._json(200, {"count": len(pieces(body["prompt"]))})
        served = {"/v1/chat/completions": fake.chat, "/v1/completions": fake.completions}
        if not served.get(self.path):
            return self._error(404, "not found")
        if body["model"] != "counter":
            return self._error(404, f"The model {body['model']} does not exist")
        for name in fake.refuses:
            if name in body:
                hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                return self._error(400, f"Unsupported parameter: '{name}'{hint}")
        if len(str(body)) > 40_000:
            return self._error(400, "This model's maximum context length is 4096 tokens")
        if body.get("echo"):
            return self._json(200, self._echo(body["prompt"])) if fake.echo else self._error(400, "echo is not here")
        with fake.lock:
            fake.running += 1
            fake.most_running = max(fake.most_running, fake.running)
            spared = fake.faults_spare_one_token and (body.get("max_tokens") or 0) <= 1
            fault = fake.faults.pop(0) if fake.faults and not spared else Fault()
        try:
            self._write(body, fault)
        except OSError:
            fake.broken_pipes.set()
            self.close_connection = True
        finally:
            with fake.lock:
                fake.running -= 1

    def _echo(self, prompt: str) -> dict[str, Any]:
        fake = self.fake
        tokens = pieces(prompt) if fake.end_is_token else pieces(prompt.replace("<|", "< |"))
        if fake.bos is not None:
            tokens.insert(0, fake.bos)
        first = [None] if tokens else []
        values = first + [logprob(piece) for piece in tokens[1:]] + [-0.5]
        tops = (
            first + [{piece: logprob(piece) - (0 if is_best(piece) else -0.25)} for piece in tokens[1:]] + [{"x": -0.5}]
        )
        spelt = [*tokens, " one"] if fake.token_pieces else [t.replace(" ", "▁") for t in [*tokens, " one"]]
        offsets = [sum(map(len, spelt[:i])) for i in range(len(spelt))]
        if fake.echo_written_only:
            spelt, values, tops, offsets = spelt[-1:], values[-1:], tops[-1:], offsets[-1:]
        found = {"tokens": spelt, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 1} if fake.usage else None
        return {"choices": [{"index": 0, "text": prompt + " one", "logprobs": found}], "usage": usage}

    def _write(self, body: dict[str, Any], fault: Fault) -> None:
        fake = self.fake
        if fault.silent:
            fake.released.wait(5)
        if fault.status is not None:
            self._error(fault.status, fault.message, fault.headers)
            return
        chat = "messages" in body
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        ends = fake.stops_after is not None and not body.get("ignore_eos") and fake.stops_after < limit
        count = fake.stops_after if ends else limit
        words = (pieces(WORDS) * (count // 10 + 1))[:count]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if chat:
            self._event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for _ in range(fake.reasoning):
            self._event({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]})
        parts = [words[i : i + fake.per_chunk] for i in range(0, count, fake.per_chunk)]
        for number, part in enumerate(parts):
            if fault.cut_after == number:
                self.close_connection = True
                self.connection.close()
                return
            if fault.end_after == number:
                self._chunk(b"")
                return
            if fault.stall_after == number:
                fake.released.wait(5)
            if fault.raw is not None and number == 0:
                self._chunk(fault.raw.encode())
                continue
            time.sleep(fake.delay_s)
            last = number == len(parts) - 1
            finish = (fake.finish or ("stop" if ends else "length")) if last else None
            self._event({"choices": [self._choice(part, body, chat) | {"index": 0, "finish_reason": finish}]})
        if fake.usage and body.get("stream_options", {}).get("include_usage"):
            length = sum(len(pieces(m["content"])) for m in body["messages"]) if chat else len(pieces(body["prompt"]))
            usage = {"prompt_tokens": length, "completion_tokens": count + fake.reasoning}
            self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _choice(self, words: list[str], body: dict[str, Any], chat: bool) -> dict[str, Any]:
        choice: dict[str, Any] = {"delta": {"content": "".join(words)}} if chat else {"text": "".join(words)}
        if self.fake.logprobs and body.get("logprobs") is not None and body["logprobs"] is not False:
            if chat:
                tops = [{"logprob": -3.0}] * body["top_logprobs"]
                choice["logprobs"] = {"content": [{"logprob": logprob(w), "top_logprobs": tops} for w in words]}
            else:
                tops = [{"a": -3.0, "b": -4.0} if body["logprobs"] else None for _ in words]
                choice["logprobs"] = {"token_logprobs": [logprob(w) for w in words], "top_logprobs": tops}
        return choice

    def _event(self, said: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(said)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, {"error": {"message": message, "type": "x"}}, headers)

    def _json(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
