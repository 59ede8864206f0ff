"""A local model as a `Generator`: weights, tokenizer and chat template behind the protocol of fairground.types."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from fairground.engine.answer import LocalStream
from fairground.engine.cache import Cache, bytes_per_token
from fairground.engine.compute import compute
from fairground.engine.loop import Loop
from fairground.engine.ngram import NGramGenerator, holds_ngram, open_ngram
from fairground.engine.reading import Reading, Tokenized
from fairground.engine.runner import Runner
from fairground.engine.scheduler import Scheduler
from fairground.engine.scoring import score, score_tokens
from fairground.errors import RequestError, UnknownModel
from fairground.kernels.packed_linear import pack, packs_here
from fairground.models.assemble import Precision, memory_bytes
from fairground.models.decoder import Block, Decoder
from fairground.models.load import Loaded, memory_sentence, open_source
from fairground.models.machine import cores, free_memory
from fairground.models.peft_files import holds_adapter
from fairground.models.tokenizer import Tokenizer
from fairground.types import Capabilities, ModelInfo, Request, Score, ScoreRequest, TokenScore


class LocalGenerator(Tokenized):
    """See fairground.types.Generator. Made by `open_model`."""

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        tokenizer: Tokenizer,
        *,
        licence: str | None = None,
        deterministic: bool = False,
        cache_tokens: int | None = None,
    ) -> None:
        """`deterministic` decodes by the scoring path in bfloat16 too; float32 always does.

        `cache_tokens`: of all running requests together; beyond it they wait (None: what a quarter of the free memory
        holds, and at least one request's whole context).
        """
        decoder = loaded.decoder
        self.decoder, self.tokenizer = decoder, tokenizer
        self._context = decoder.config.context_length
        self._reading = Reading(name, tokenizer, "embedding", decoder.config.vocab_size, self._context)
        self.template = self._reading.template
        tokens = cache_tokens or _affordable(decoder)
        self._cache = compute(Cache, decoder.config, decoder.dtype, str(decoder.device), tokens=tokens)
        exact = deterministic or decoder.dtype == torch.float32
        runner, scheduler = Runner(decoder, self._cache, exact=exact), Scheduler(self._cache.pools, self._cache.windows)
        self._loop = Loop(runner, scheduler, tokenizer)
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
        return self._reading.prompt(request)

    def submit(self, request: Request) -> LocalStream:
        """Starts a request and returns at once. Raises RequestError for one that cannot be served."""
        stream = self._reading.stream(request)
        self._loop.submit(stream)
        return stream

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-likelihoods as lm-evaluation-harness defines them; see `Reading.pairs` for what is scored after what.

        What is too long for the model loses tokens at the left, and the score says how many. Raises RequestError for an
        empty continuation.
        """
        pairs, lost = [], []
        for number, (context, continuation) in enumerate(self._reading.pairs(requests)):
            over = max(0, len(context) + len(continuation) - 1 - self._context)
            if over >= len(context):
                raise RequestError(
                    f"the continuation is {len(continuation)} tokens long, but {self.info.name} sees {self._context} "
                    "in all; shorten it.",
                    number,
                )
            pairs.append((context[over:], continuation))
            lost.append(over)
        scores = score(self.decoder, self._cache, pairs)
        return [Score(s.logprob, s.greedy, s.tokens, over) for s, over in zip(scores, lost, strict=True)]

    def score_tokens(
        self, prompts: Sequence[Sequence[int]], alternatives: int = 0, stop: threading.Event | None = None
    ) -> list[list[TokenScore]]:
        """Every token's log-probability; see fairground.types.TokenLevel."""
        ids = [self._reading.tokens(prompt, number) for number, prompt in enumerate(prompts)]
        pairs = [(prompt[:1], prompt[1:]) for prompt in ids]
        asked = [pair for pair in pairs if pair[1]]
        scored = iter(score_tokens(self.decoder, self._cache, asked, alternatives, stop))
        return [[TokenScore(first, None), *(next(scored) if rest else ())] for (first,), rest in pairs]

    @property
    def broken(self) -> str | None:
        """Why the engine writes nothing more; None while it does."""
        return str(self._loop.broken) if self._loop.broken else None

    def close(self) -> None:
        """Cancels running requests and ends the engine's thread."""
        self._loop.close()


def _for_inference(decoder: Decoder) -> None:
    """Block by block, so that few weights are there twice at a time."""
    for block in decoder.blocks:
        assert isinstance(block, Block)
        block.join()
        pack(block)


def _affordable(decoder: Decoder) -> int:
    """Tokens whose keys and values a quarter of the free memory holds; at least a whole context."""
    each = bytes_per_token(decoder.config, decoder.dtype)
    return max(decoder.config.context_length, free_memory(str(decoder.device)) // 4 // each)


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
    base: Path | None = None,
    notice: Callable[[str], None] | None = None,
) -> LocalGenerator | NGramGenerator:
    """Loads a model folder or a GGUF file; for a folder that holds an n-gram model, an NGramGenerator.

    An adapter's folder is its base with the adapter merged; `base` is where that lies, if not where the folder says.
    `threads`: CPU threads for the products (default: all cores). `notice` is told, before a weight is read, what memory
    that takes. Raises a ModelError that says what is wrong; DoesNotFit where the memory is not there.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise UnknownModel(f"There is no device {device!r} on this machine; leave --device out to run on the CPU.")
    if not holds_adapter(path) and holds_ngram(path):
        return open_ngram(path, name=name or path.stem, precision=precision, licence=licence)
    compute(torch.set_num_threads, threads or cores())
    source = open_source(path, allow_pickle=allow_pickle, base=base)
    tokenizer = source.tokenizer()
    if notice:
        notice(f"{name or path.stem} {memory_sentence(source.config, precision)}.")
    loaded = compute(source.load, precision, device)
    if device == "cpu" and precision == "bfloat16" and packs_here():
        compute(_for_inference, loaded.decoder)
    return LocalGenerator(name or path.stem, loaded, tokenizer, licence=licence, deterministic=deterministic)
