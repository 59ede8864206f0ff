"""A local model as a `Generator`: weights, tokenizer and chat template behind the protocol of fairground.types."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from fairground.engine.blocks import BlockPool
from fairground.engine.compute import compute
from fairground.engine.loop import LocalStream, Loop
from fairground.engine.scoring import score
from fairground.errors import RequestError, UnknownModel
from fairground.kernels.packed_linear import pack, packs_here
from fairground.models.assemble import Precision, memory_bytes
from fairground.models.chat_template import ChatTemplate
from fairground.models.gguf_file import GGUFFile
from fairground.models.load import Loaded, memory_sentence, open_source
from fairground.models.tokenizer import Tokenizer
from fairground.types import Capabilities, ModelInfo, Request, Score, ScoreRequest


class LocalGenerator:
    """See fairground.types.Generator. Made by `open_model`."""

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        tokenizer: Tokenizer,
        *,
        licence: str | None = None,
        deterministic: bool = False,
    ) -> None:
        """`deterministic` decodes by the scoring path in bfloat16 too; float32 always does."""
        decoder = loaded.decoder
        self.decoder, self.tokenizer = decoder, tokenizer
        tokens = tokenizer.special_tokens
        self.template = ChatTemplate(tokenizer.chat_template, special_tokens=tokens)
        self._context = decoder.config.context_length
        self._pool = compute(BlockPool, decoder.config, decoder.dtype, str(decoder.device))
        exact = deterministic or decoder.dtype == torch.float32
        self._loop = Loop(decoder, tokenizer, self._pool, exact=exact)
        self.info = ModelInfo(
            name=name,
            family=decoder.config.family,
            parameters=decoder.config.parameter_count(),
            precision=loaded.precision,
            memory_bytes=memory_bytes(decoder),
            licence=licence,
            can=Capabilities(chat=not self.template.fallback, context_length=self._context),
        )

    def prompt_tokens(self, request: Request) -> list[int]:
        """The token ids of a request's prompt. Raises RequestError for one that is empty or cannot be run."""
        prompt = request.prompt
        if not prompt:
            raise RequestError("The prompt is empty; give at least one character.")
        if isinstance(prompt, str):
            tokens = self.tokenizer.encode(prompt)
        elif isinstance(prompt[0], int):
            tokens = [int(token) for token in prompt]
        else:
            text = self.template.render(prompt)
            tokens = self.tokenizer.encode(text, special=self.template.fallback)
        self._check(tokens)
        if len(tokens) >= self._context:
            raise RequestError(
                f"The prompt is {len(tokens)} tokens long, but {self.info.name} sees {self._context} in all, its "
                "answer included; shorten the prompt."
            )
        return tokens

    def _check(self, tokens: Sequence[int]) -> None:
        rows = self.decoder.config.vocab_size
        if not tokens:
            raise RequestError("The prompt holds no token at all; give at least one character that the model knows.")
        bad = next((token for token in tokens if not 0 <= token < rows), None)
        if bad is not None:
            raise RequestError(
                f"The token id {bad} is outside the embedding of {self.info.name}, which has {rows} rows; tokenizer "
                "and weights are not of the same model."
            )

    def submit(self, request: Request) -> LocalStream:
        """Starts a request and returns at once. Raises RequestError for one that cannot be served."""
        stream = LocalStream(request, self.prompt_tokens(request))
        self._loop.submit(stream)
        return stream

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-likelihoods as lm-evaluation-harness defines them (`loglikelihood` of its `hf` model).

        Context and continuation are tokenized together and split after the context's own tokens; spaces that end the
        context belong to the continuation; an empty context is the model's first token (bos, else eos). What is too
        long for the model loses tokens at the left, and the score says how many. Raises RequestError for an empty
        continuation.
        """
        pairs, lost = [], []
        for number, request in enumerate(requests):
            context, continuation = self._pair(request, number)
            over = max(0, len(context) + len(continuation) - 1 - self._context)
            if over >= len(context):
                raise RequestError(
                    f"The continuation of request {number + 1} is {len(continuation)} tokens long, but "
                    f"{self.info.name} sees {self._context} in all; shorten it."
                )
            pairs.append((context[over:], continuation))
            lost.append(over)
        scores = score(self.decoder, self._pool, pairs)
        return [Score(s.logprob, s.greedy, s.tokens, over) for s, over in zip(scores, lost, strict=True)]

    def _pair(self, request: ScoreRequest, number: int) -> tuple[list[int], list[int]]:
        context, continuation = request.context, request.continuation
        if context == "":
            after = self.tokenizer.encode(continuation, special=False)
            first = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
            if first is None:
                raise RequestError(f"{self.info.name} has no token that begins a text, so the context cannot be empty.")
            before, after = ([first], after) if after[:1] != [first] else (after[:1], after[1:])
        else:
            spaces = len(context) - len(context.rstrip())
            if spaces:
                context, continuation = context[:-spaces], context[-spaces:] + continuation
            whole = self._encode_text(context + continuation)
            before = self._encode_text(context) if context else whole[:0]
            before, after = whole[: len(before)], whole[len(before) :]
        if not before or not after:
            raise RequestError(
                f"The {'context' if not before else 'continuation'} of request {number + 1} has no token of its own; "
                "give it at least one more character."
            )
        self._check([*before, *after])
        return before, after

    def _encode_text(self, text: str) -> list[int]:
        bos = self.tokenizer.special_tokens.get("bos_token")
        return self.tokenizer.encode(text, special=not (bos and text.startswith(bos)))

    def count_tokens(self, text: str) -> int:
        """How many tokens the text is, without any that the model adds by itself."""
        return self.tokenizer.count(text)

    def close(self) -> None:
        """Cancels running requests and ends the engine's thread."""
        self._loop.close()


def open_model(
    path: Path,
    *,
    name: str | None = None,
    precision: Precision = "bfloat16",
    device: str = "cpu",
    threads: int | None = None,
    licence: str | None = None,
    deterministic: bool = False,
    allow_pickle: bool = False,
    notice: Callable[[str], None] | None = None,
) -> LocalGenerator:
    """Loads a model folder or a GGUF file.

    `threads`: CPU threads for the products (default: all cores). `notice` is told, before a weight is read, what memory
    that takes. Raises a ModelError that says what is wrong; DoesNotFit where the memory is not there.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise UnknownModel(f"There is no device {device!r} on this machine; leave --device out to run on the CPU.")
    compute(torch.set_num_threads, threads or os.cpu_count() or 1)
    source = open_source(path, allow_pickle=allow_pickle)
    gguf = isinstance(source.file, GGUFFile)
    tokenizer = Tokenizer.from_gguf(source.file.metadata) if gguf else Tokenizer.from_folder(path)  # type: ignore[attr-defined]
    if notice:
        notice(f"{name or path.stem} {memory_sentence(source.config, precision)}.")
    loaded = compute(source.load, precision, device)
    if device == "cpu" and precision == "bfloat16" and packs_here():
        compute(pack, loaded.decoder.blocks)
    return LocalGenerator(name or path.stem, loaded, tokenizer, licence=licence, deterministic=deterministic)
