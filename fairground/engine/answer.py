"""One answer as it is written: chosen token by token, turned into text, and handed on as it comes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from fairground.engine.constraint import Constraint
from fairground.engine.sampler import Sampler
from fairground.models.tokenizer import Tokenizer
from fairground.types import Completion, FinishReason, Message, Request, StreamEvent, Timing, TokenEvent

CONTEXT = 8  # prompt tokens that decide how the first written one is spelt


class LocalStream:
    """A running request; see fairground.types.Stream."""

    def __init__(self, request: Request, prompt: Sequence[int], constraint: Constraint | None = None) -> None:
        self.request, self.prompt, self.constraint = request, prompt, constraint
        self.accepted = time.perf_counter()
        self.cancelled = threading.Event()
        self._events: queue.SimpleQueue[StreamEvent] = queue.SimpleQueue()
        self._end: Completion | BaseException | None = None
        self._listening = threading.Lock()
        self._listener: Callable[[StreamEvent], None] | None = None

    def put(self, event: StreamEvent) -> None:
        """The engine's side: the next token, the end, or what went wrong."""
        with self._listening:
            if self._listener is None:
                self._events.put(event)
            else:
                self._listener(event)

    def listen(self, listener: Callable[[StreamEvent], None]) -> None:
        """See fairground.types.Listened."""
        with self._listening:
            while not self._events.empty():
                listener(self._events.get())
            self._listener = listener

    def __iter__(self) -> Iterator[TokenEvent]:
        """Token events as they come; raises what the engine raised."""
        while self._end is None:
            event = self._events.get()
            if isinstance(event, TokenEvent):
                yield event
            else:
                self._end = event
        if isinstance(self._end, BaseException):
            raise self._end

    def completion(self) -> Completion:
        """Waits for the end."""
        for _ in self:
            pass
        assert isinstance(self._end, Completion)
        return self._end

    def cancel(self) -> None:
        """Asks the engine to end the request before its next token."""
        self.cancelled.set()


class TextOut:
    """Text as tokens give it, held back while it might be the beginning of a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], before: Sequence[int] = ()) -> None:
        """`before`: the tokens that the text goes on from, which decide whether it begins with a space."""
        self._decoder, self._stop, self._held, self.text, self.stopped = tokenizer.stream(), stop, "", "", False
        for token in before:
            self._decoder.push(token)

    def push(self, token: int) -> str:
        """The text that is certain after this token; sets `stopped` at a stop string, which is left out."""
        return self._release(self._decoder.push(token), final=False)

    def finish(self) -> str:
        """What was still held back."""
        return "" if self.stopped else self._release(self._decoder.finish(), final=True)

    def _release(self, new: str, *, final: bool) -> str:
        self._held += new
        places = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if places:
            out, self._held, self.stopped = self._held[: min(places)], "", True
        else:
            keep = 0 if final else max((_overlap(self._held, stop) for stop in self._stop), default=0)
            cut = len(self._held) - keep
            out, self._held = self._held[:cut], self._held[cut:]
        self.text += out
        return out


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Answer:
    """A request that is being answered: the engine hands it logits, and it tells the stream what came of them."""

    def __init__(self, stream: LocalStream, tokenizer: Tokenizer, rows: int, room: int | None = None) -> None:
        """`rows`: how many logits come. `room`: tokens that the model can still see (None: any number)."""
        sampling, most = stream.request.sampling, stream.request.sampling.max_tokens
        self.stream = stream
        self.tokens: list[int] = []
        self.cached_tokens = 0  # of the prompt, that did not have to be computed
        self._ends = () if sampling.ignore_eos else tokenizer.eos_ids
        banned = tokenizer.eos_ids if sampling.ignore_eos else ()
        self._sampler = Sampler(sampling, min(tokenizer.vocab_size, rows), stream.prompt, banned, stream.constraint)
        before = () if _is_chat(stream.request) else stream.prompt[-CONTEXT:]
        self._text = TextOut(tokenizer, sampling.stop, before)
        self._limit = most if room is None else min(most, room)
        self._logprobs: list[float] = []
        self._times: list[float] = []

    def add(self, logits_V: Tensor, likeliest: int | None = None) -> FinishReason | None:
        """Chooses the next token and tells the stream. Why the answer is done, or None where it goes on.

        `likeliest`: the token of the greatest logit, where that is known.
        """
        token, logprob, alternatives = self._sampler.choose(logits_V, likeliest)
        now = time.perf_counter()
        ended = token in self._ends
        self.tokens.append(token)
        self._times.append(now)
        if logprob is not None:
            self._logprobs.append(logprob)
        text = "" if ended else self._text.push(token)
        self.stream.put(TokenEvent(token, text, now, logprob, alternatives))
        if ended or self._text.stopped or self._sampler.complete:
            return "stop"
        return "length" if len(self.tokens) >= self._limit else None

    def end(self, reason: FinishReason) -> None:
        """Tells the stream the text that was held back, and the end."""
        rest, stream = self._text.finish(), self.stream
        if rest and self._times:
            stream.put(TokenEvent(self.tokens[-1], rest, self._times[-1]))
        timing = Timing(stream.accepted, tuple(self._times))
        prompt, cached, logprobs = len(stream.prompt), self.cached_tokens, tuple(self._logprobs)
        stream.put(Completion(self._text.text, tuple(self.tokens), reason, prompt, timing, logprobs, cached))


def _is_chat(request: Request) -> bool:
    """Whether the answer is a turn of its own, rather than the rest of a text."""
    return not isinstance(request.prompt, str) and isinstance(request.prompt[0], Message)
