"""Answers of a given structure: a JSON schema, a regular expression or one of several texts, kept to by llguidance.

Before each token it says which ones the structure allows, so that whatever is written is right by construction; only
where the tokens run out is an answer cut short.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from torch import Tensor

from fairground.errors import RequestError
from fairground.models.tokenizer import Tokenizer
from fairground.types import Structure

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # a type that is not there when it runs

COMPILED = 64  # structures whose compiled grammars are kept, the least recently used forgotten first
# As json.dumps writes, and most text that a model has read; free white space would let a small model write it for ever.
SEPARATORS: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Constraint:
    """One answer's structure, token by token."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self, known: int) -> Tensor:
        """Which of the first `known` token ids may come next: bool [known]. Raises RequestError for too much work."""
        bits = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        self._check()
        return ((bits[:, None] >> torch.arange(8)) & 1).flatten()[:known].bool()

    def take(self, token: int) -> bool:
        """Says what was chosen; whether the structure is complete and nothing but an end can follow."""
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RequestError(_too_much("response_format", self._matcher.get_error()))


class Structures:
    """Compiles structures for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._reading: LLTokenizer | None = None
        self._compiled: OrderedDict[Structure, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def constraint(self, structure: Structure) -> Constraint:
        """A constraint at its beginning. Raises RequestError for a structure that cannot be compiled."""
        with self._lock:
            if structure in self._compiled:
                self._compiled.move_to_end(structure)
                return Constraint(self._compiled[structure].deep_copy())
            if self._reading is None:
                self._reading = _reading(self._tokenizer)
        matcher = LLMatcher(self._reading, _grammar(structure), log_level=0)
        if matcher.is_error():
            raise RequestError(_too_much(structure.field, matcher.get_error()))
        with self._lock:
            self._compiled[structure] = matcher
            while len(self._compiled) > COMPILED:
                self._compiled.popitem(last=False)
        return Constraint(matcher.deep_copy())


def _grammar(structure: Structure) -> str:
    match structure.kind:
        case "json":
            try:
                return LLMatcher.grammar_from_json_schema(structure.text, defaults=SEPARATORS)
            except ValueError as error:
                raise RequestError(_too_much(structure.field, str(error))) from None
        case "regex":
            return LLMatcher.grammar_from_regex(structure.text)
        case "choice":
            return LLMatcher.grammar_from_regex("|".join(re.escape(text) for text in json.loads(structure.text)))


def _too_much(field: str, reason: str) -> str:
    said = reason.strip().splitlines()[0][:300].rstrip(".")
    return f"{field} cannot be kept to ({said}); simplify it."


class _Spelling:
    """A tokenizer as llguidance wants it; special tokens begin with a byte that no text has."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = min(tokenizer.eos_ids)
        self.bos_token_id = tokenizer.bos_id
        spelt = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self.special_token_ids = [token for token, text in enumerate(spelt) if not text]
        self.tokens: Sequence[bytes] = [text or b"\xff<%d>" % token for token, text in enumerate(spelt)]

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, special=False, allow_special=False)


def _reading(tokenizer: Tokenizer) -> LLTokenizer:
    if not tokenizer.eos_ids:
        raise RequestError("response_format needs a model with a token that ends a text, and this one has none.")
    return LLTokenizer(TokenizerWrapper(_Spelling(tokenizer)), eos_token=sorted(tokenizer.eos_ids))
