"""What a local model is asked, as token ids: prompts to go on from, and contexts with what is scored after them."""

from __future__ import annotations

from collections.abc import Sequence

from fairground.engine.answer import LocalStream
from fairground.engine.constraint import Structures
from fairground.errors import RequestError
from fairground.models.chat_template import ChatTemplate
from fairground.models.tokenizer import Tokenizer
from fairground.types import Request, ScoreRequest


class Tokenized:
    """What a generator with a tokenizer tells of its tokens; see fairground.types.TokenLevel."""

    tokenizer: Tokenizer

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The token ids that the text is read as; with `special`, what the model adds to a text too."""
        return self.tokenizer.encode(text, special=special)

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of these tokens, special ones included. Raises RequestError for an id below 0."""
        return self.tokenizer.decode(tokens, skip_special=False)

    def token_bytes(self, token: int) -> bytes:
        """What one token spells inside a text, in UTF-8; nothing for a special token."""
        return self.tokenizer.token_bytes(token)

    def tokenizer_info(self) -> dict[str, str | int | None]:
        """See fairground.types.TokenLevel."""
        words = self.tokenizer
        names = {"bos_token": None, "eos_token": None, "pad_token": None, **words.special_tokens}
        return {**names, "chat_template": words.chat_template, "vocab_size": words.vocab_size}

    def count_tokens(self, text: str) -> int:
        """How many tokens the text is, without any that the model adds by itself."""
        return self.tokenizer.count(text)


class Reading:
    """A model's tokenizer and chat template, and the limits of what it can be asked.

    `rows`: token ids are below it; `table`: what has so many rows, in the words of an error. `context_length`: tokens
    that the model sees, prompt and answer together (None: any number).
    """

    def __init__(self, name: str, tokenizer: Tokenizer, table: str, rows: int, context_length: int | None) -> None:
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer.chat_template, special_tokens=tokenizer.special_tokens)
        self._structures = Structures(tokenizer)
        self._name, self._table, self._rows, self._context = name, table, rows, context_length

    def stream(self, request: Request) -> LocalStream:
        """What the engine takes: the request's tokens, and the structure its answer must have, ready to be kept to.

        Raises RequestError for a prompt that is empty or cannot be run, or a structure that cannot be kept to.
        """
        prompt, structure = self.prompt(request), request.sampling.structure
        return LocalStream(request, prompt, self._structures.constraint(structure) if structure else None)

    def prompt(self, request: Request) -> list[int]:
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
        if self._context is not None and len(tokens) >= self._context:
            raise RequestError(
                f"The prompt is {len(tokens)} tokens long, but {self._name} sees {self._context} in all, its "
                "answer included; shorten the prompt."
            )
        return tokens

    def tokens(self, prompt: Sequence[int], number: int) -> list[int]:
        """A prompt that is scored token by token. Raises RequestError, with its number, where that cannot be."""
        if not prompt:
            raise RequestError("the prompt has no token; give it at least one.", number)
        self._check(prompt)
        if self._context is not None and len(prompt) > self._context:
            raise RequestError(
                f"the prompt is {len(prompt)} tokens long, but {self._name} sees {self._context} in all; shorten it.",
                number,
            )
        return list(prompt)

    def pairs(self, requests: Sequence[ScoreRequest]) -> list[tuple[list[int], list[int]]]:
        """Contexts and continuations as lm-evaluation-harness splits them (`loglikelihood` of its `hf` model).

        They are tokenized together, and what comes after as many tokens as the context has alone is scored after those
        of the context alone, also where its end would have merged with what follows, as the harness does. Spaces that
        end the context belong to the continuation; an empty context is the model's first token (bos, else eos).
        A RequestError for a continuation or a context without a token has the number of its request, from 0.
        """
        split = []
        for request in requests:
            context = request.context.rstrip()
            split.append((context, request.context[len(context) :] + request.continuation))
        # A question's choices have one context.
        contexts = list(dict.fromkeys(context for context, _ in split))
        alone = dict(zip(contexts, self._encode_texts(contexts), strict=True))
        wholes = self._encode_texts([context + continuation for context, continuation in split])
        pairs = []
        for number, (request, (context, _), whole) in enumerate(zip(requests, split, wholes, strict=True)):
            if request.context == "":
                before, after = self._from_nothing(request.continuation)
            else:
                before = list(alone[context]) if context else []
                after = whole[len(before) :]
            if not before or not after:
                raise RequestError(
                    f"the {'context' if not before else 'continuation'} has no token of its own; give it at least one "
                    "more character.",
                    number,
                )
            self._check([*before, *after])
            pairs.append((before, after))
        return pairs

    def _from_nothing(self, continuation: str) -> tuple[list[int], list[int]]:
        after = self.tokenizer.encode(continuation, special=False)
        first = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
        if first is None:
            raise RequestError(f"{self._name} has no token that begins a text, so the context cannot be empty.")
        return ([first], after) if after[:1] != [first] else (after[:1], after[1:])

    def _check(self, tokens: Sequence[int]) -> None:
        if not tokens:
            raise RequestError("The prompt holds no token at all; give at least one character that the model knows.")
        bad = next((token for token in tokens if not 0 <= token < self._rows), None)
        if bad is not None:
            raise RequestError(
                f"The token id {bad} is outside the {self._table} of {self._name}, which has {self._rows} rows; "
                "tokenizer and weights are not of the same model."
            )

    def _encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """A text that begins with the model's first token, spelt out, gets no second one."""
        bos = self.tokenizer.special_tokens.get("bos_token")
        if bos and any(text.startswith(bos) for text in texts):
            return [self.tokenizer.encode(text, special=not text.startswith(bos)) for text in texts]
        return self.tokenizer.encode_all(texts)
