"""Text to token ids and back, for every model alike, and the same back piece by piece while a model writes.

A tokenizer comes from a Hugging Face folder or from a GGUF file's metadata; after that nothing depends on where from.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers

from fairground.errors import RequestError, TokenizerError
from fairground.models import tokenizer_folder, vocabulary
from fairground.models.vocabulary import TURN_ENDS, Vocabulary

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that byte-level tokens spell as themselves
_BYTE_OF_LETTER = {chr(byte): byte for byte in _PLAIN} | {
    chr(256 + number): byte for number, byte in enumerate(byte for byte in range(256) if byte not in _PLAIN)
}

# Transformers' clean_up_tokenization, in its order.
_CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Tokenizer:
    """Text to ids and back. Methods may be called from several threads at once.

    `bos_id`: what a text begins with, or None. `eos_id`: the tokenizer's own end token, or None. `eos_ids`: every id
    that ends an answer (the tokenizer's, the generation config's, and a turn's end that the chat template writes).
    `vocab_size`: the largest known id + 1; a model may have more rows in its embedding, and no text uses those.
    `special_tokens`: `bos_token`, `eos_token`, … by name, as chat templates see them. `chat_template`: its source.
    """

    def __init__(self, words: Vocabulary) -> None:
        self._backend = words.backend
        added = words.backend.get_added_tokens_decoder()
        self._special_ids = frozenset(i for i, token in added.items() if token.special)
        self._ids = words.backend.get_vocab(with_added_tokens=True)
        # Transformers leaves byte-pair text alone even where a config asks for cleaning: it would lose spaces.
        self._clean_up = words.clean_up and not isinstance(words.backend.model, tokenizers.models.BPE)
        self.vocab_size: int = max(self._ids.values(), default=-1) + 1
        self.special_tokens: Mapping[str, str] = dict(words.names)
        self.chat_template: str | None = words.chat_template
        self.bos_id: int | None = words.bos_id
        self.eos_id: int | None = self._ids.get(words.names.get("eos_token", ""))
        ends = (self._ids[end] for end in TURN_ENDS if end in (words.chat_template or "") and end in self._ids)
        self.eos_ids: frozenset[int] = words.eos_ids | {i for i in ends if i in self._special_ids}
        self._prefix, self._suffix = self._surrounding()
        self._guard = next((i for t in ("a", "e", "0", "!") if (i := self._ids.get(t)) is not None), None)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """Reads a folder's tokenizer.json or tokenizer.model and the files beside it.

        Ids equal those of Transformers' AutoTokenizer for a tokenizer.json, sentencepiece's own for a tokenizer.model.
        Raises TokenizerError where neither is there, and for a damaged file.
        """
        return cls(tokenizer_folder.from_folder(Path(folder)))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object]) -> Tokenizer:
        """Reads a GGUF file's `tokenizer.*` metadata (arrays as lists or numpy arrays).

        Raises TokenizerError for a kind or a pre-tokenizer that is not known exactly, and for a damaged vocabulary.
        """
        return cls(vocabulary.from_gguf(metadata))

    def encode(self, text: str, *, special: bool = True, allow_special: bool = True) -> list[int]:
        """The text's ids. `special`: with what the model adds by itself (bos, where it has one; maybe eos).

        `allow_special`: whether text that spells a special token ("<|im_end|>") becomes that token, as in Transformers,
        which a rendered chat template needs. False: no id of a special token comes from `text`, however it is spelt.
        A rendered chat template brings its own bos: encode it with special=False.
        Raises RequestError for text that is not Unicode (a lone surrogate).
        """
        encoding = self._encoding(text, special, allow_special)
        if allow_special:
            return encoding.ids
        ids = [i for id_ in encoding.ids for i in self._spelt_out(id_)]
        return [*self._prefix, *ids, *self._suffix] if special else ids

    def encode_all(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """`encode` of each, on all cores."""
        try:
            return [found.ids for found in self._backend.encode_batch_fast(texts, add_special_tokens=special)]
        except (TypeError, UnicodeEncodeError):
            return [self.encode(text, special=special) for text in texts]

    def encode_marked(
        self, text: str, spans: Sequence[tuple[int, int]], *, special: bool
    ) -> tuple[list[int], list[bool]]:
        """The ids of `encode`, and which of them spell any of the characters in `spans`, [start, end) each.

        Equal to the assistant masks of Transformers. Raises RequestError as `encode`.
        """
        encoding = self._encoding(text, special, allow_special=True)
        inside = np.zeros(len(text), dtype=np.int64)
        for start, end in spans:
            inside[start:end] = 1
        before = np.concatenate(([0], np.cumsum(inside)))
        return encoding.ids, [bool(before[end] > before[start]) for start, end in encoding.offsets]

    def count(self, text: str) -> int:
        """How many tokens the text is, without any that the model adds by itself."""
        return len(self.encode(text, special=False))

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`, as Transformers decodes them; ids that no token has give nothing.

        Raises RequestError for a negative id.
        """
        try:
            text = self._backend.decode(ids, skip_special_tokens=skip_special)
        except (OverflowError, TypeError) as why:
            raise RequestError(
                "A token id is not a whole number from 0 up; give ids as `encode` returns them."
            ) from why
        if self._clean_up:
            for bad, good in _CLEAN_UP:
                text = text.replace(bad, good)
        return text

    def token_bytes(self, id_: int) -> bytes:
        """What a token spells inside a text, in UTF-8; nothing for a special token and for an id that no token has."""
        spelling = self._backend.id_to_token(id_) if 0 <= id_ < self.vocab_size else None
        if spelling is None or id_ in self._special_ids:
            return b""
        if isinstance(self._backend.decoder, tokenizers.decoders.ByteLevel):
            letters = [_BYTE_OF_LETTER.get(letter) for letter in spelling]
            # An added token is spelt as it is, and may have letters that stand for no byte.
            return spelling.encode() if None in letters else bytes(letter for letter in letters if letter is not None)
        if _BYTE.fullmatch(spelling):
            return bytes([int(spelling[3:5], 16)])
        return spelling.replace(vocabulary.SPACE, " ").encode()

    def byte_length(self, id_: int) -> int:
        """How many bytes `token_bytes` gives."""
        return len(self.token_bytes(id_))

    def vocabulary(self) -> Mapping[str, int]:
        """Every token's spelling, as the file has it, and its id."""
        return self._ids

    def digest(self) -> str:
        """SHA-256 of everything that decides ids: two tokenizers that agree in it are one."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def stream(self, *, skip_special: bool = True) -> TextStream:
        """A fresh incremental decoder for one answer."""
        return TextStream(self, skip_special)

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja; Transformers loads them, ids equal.

        Each file is either the old one or the whole new one. What a generation config says of eos is the model's to
        save. Raises OSError where the folder cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # This class is run as tokenizer.json stands, by every version of Transformers. It must not replace the file's
        # idea of what to add, so add_bos_token is not written.
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": self._clean_up}
        settings = json.dumps({**config, **self.special_tokens}, indent=2, ensure_ascii=False) + "\n"
        _write(folder / "tokenizer.json", self._backend.to_str(pretty=True))
        _write(folder / "tokenizer_config.json", settings)
        template = folder / "chat_template.jinja"
        if self.chat_template is None:
            template.unlink(missing_ok=True)
        else:
            _write(template, self.chat_template)

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """A second machine: whether text may become a special token is a setting of the machine, not of a call."""
        with vocabulary.refused_as("This tokenizer's vocabulary is damaged"):
            machine = tokenizers.Tokenizer.from_str(self._backend.to_str())
        machine.encode_special_tokens = True
        return machine

    def _surrounding(self) -> tuple[list[int], list[int]]:
        """The ids that the model adds before and after every text."""
        with vocabulary.refused_as("This tokenizer is damaged and fails on a first text"):
            bare = self._backend.encode("a", add_special_tokens=False).ids
            full = self._backend.encode("a").ids
            self._backend.decode(full, skip_special_tokens=False)
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        raise TokenizerError("This tokenizer changes a text when it adds its special tokens; convert the model anew.")

    def _encoding(self, text: str, special: bool, allow_special: bool) -> tokenizers.Encoding:
        machine = self._backend if allow_special else self._plain
        try:
            return machine.encode(text, add_special_tokens=special and allow_special)
        except (TypeError, UnicodeEncodeError) as why:
            raise RequestError("The text holds half a surrogate pair and is not valid Unicode; remove it.") from why

    def _spelt_out(self, id_: int) -> Iterable[int]:
        """`id_`, or where merging made a special token out of plain text, the tokens of its single characters."""
        if id_ not in self._special_ids or id_ == self._ids.get(self.special_tokens.get("unk_token", "")):
            return (id_,)
        spelling = self._backend.id_to_token(id_) or ""
        parts = (token.id for character in spelling for token in self._plain.model.tokenize(character))
        return [part for part in parts if part not in self._special_ids]


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class TextStream:
    """Decodes one token at a time; the pieces joined are `Tokenizer.decode` of all ids, to the letter.

    Text is held back while it may still change: a character whose bytes are not all there; with byte fallback, a whole
    run of byte tokens, since one bad byte turns the run into replacement characters.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._held: list[int] = []
        self._begun = False

    def push(self, id_: int) -> str:
        """The text that is certain now, which may be none. Raises RequestError for a negative id."""
        tokenizer = self._tokenizer
        if id_ < 0:
            raise RequestError(f"Token id {id_} is below 0; give ids as a model chooses them.")
        token = tokenizer._backend.id_to_token(id_)
        if token is None or (self._skip_special and id_ in tokenizer._special_ids):
            return ""  # decoding drops these before anything else, so they do not end a run either
        self._held.append(id_)
        if tokenizer._guard is None or tokenizer._clean_up or _BYTE.fullmatch(token):
            return ""
        text = self._text()
        if not text or text.endswith("\ufffd"):
            return ""
        return self._release()

    def finish(self) -> str:
        """What is still held, complete or not."""
        return self._release() if self._held else ""

    def _release(self) -> str:
        # Only a text's first piece loses the space that SentencePiece puts before a text.
        text = self._text() if self._begun else self._tokenizer.decode(self._held, skip_special=self._skip_special)
        self._held.clear()
        self._begun = True
        return text

    def _text(self) -> str:
        """The held tokens' text as it reads inside a text: decoded behind an ordinary letter, then cut off it."""
        tokenizer = self._tokenizer
        if tokenizer._guard is None:
            return tokenizer.decode(self._held, skip_special=self._skip_special)
        letter = tokenizer.decode([tokenizer._guard], skip_special=False)
        return tokenizer.decode([tokenizer._guard, *self._held], skip_special=self._skip_special)[len(letter) :]
