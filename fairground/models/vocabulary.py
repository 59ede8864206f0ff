"""Tokenizers built from what is not a tokenizer.json: a GGUF file's metadata, or SentencePiece's pieces and scores.

Both end as a `tokenizers.Tokenizer`, so that everything after loading has one way to encode and to decode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, SupportsFloat, SupportsIndex, cast

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from fairground.errors import TokenizerError

# The piece types of SentencePiece's ModelProto, which GGUF took over as they are.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# A chat template that writes one of these control tokens ends a turn with it, whatever the file's eos says: LLaMA 3's
# first files named <|end_of_text|> as eos, and their models then talked on after <|eot_id|>.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>", "<|end|>")

AGAIN = "fetch the file again or convert the model anew."
SPACE = "\u2581"  # what SentencePiece writes for a space


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as its files describe it: the machine, and what the files say beside it.

    `names` maps `bos_token`, `eos_token`, `unk_token`, `pad_token`, … to the tokens' texts, as chat templates see them.
    """

    backend: tokenizers.Tokenizer
    names: Mapping[str, str]
    eos_ids: frozenset[int]
    chat_template: str | None = None
    clean_up: bool = False
    bos_id: int | None = None


# How byte-level families cut a text into words before merging. The expressions are the models' own, as their
# tokenizer.json files have them.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Cut:
    """One family's way of cutting text. `split` None: GPT-2's own expression."""

    split: str | None = None
    digits: bool = False  # every digit stands alone, cut before anything else
    nfc: bool = False  # canonical composition first
    whole_words: bool = False  # a word that is a token as it stands is not merged (tokenizers' ignore_merges)
    bos: bool = False  # whether a file that does not say adds the bos token


_CUTS = {
    **dict.fromkeys(("default", "gpt-2", "gpt2"), _Cut()),
    # SmolLM's own tokenizer.json and llama.cpp cut digits first; Transformers 5 leaves that out, for the folder as for
    # the GGUF file, and its ids are the reference here. They differ where two or more blanks stand before a digit.
    "smollm": _Cut(),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe"), _Cut(split=_LLAMA3, whole_words=True, bos=True)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _Cut(split=_QWEN2, nfc=True)),
    "tekken": _Cut(split=_TEKKEN, whole_words=True, bos=True),
}


@contextmanager
def refused_as(what: str) -> Iterator[None]:
    """Turns whatever `tokenizers` raises inside into a TokenizerError: `what`, and its reason.

    It raises Exception itself for a file that it understands to be wrong, and a panic, which is none, for others.
    """
    try:
        yield
    except (TokenizerError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as why:
        raise TokenizerError(f"{what} ({why}); {AGAIN}") from why


def from_gguf(metadata: Mapping[str, object]) -> Vocabulary:
    """Builds a tokenizer from a GGUF file's `tokenizer.*` keys.

    Raises TokenizerError for a vocabulary that is missing, damaged, or of a kind that is not known exactly.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise TokenizerError(
            f"This GGUF file's tokenizer is of kind {model!r}, but only 'gpt2' and 'llama' are understood; "
            "convert the model to a Hugging Face folder with a tokenizer.json and give that."
        )
    tokens = _strings(metadata, "tokens")
    kinds = [int(k) for k in _numbers(metadata, "token_type", len(tokens), default=NORMAL)]
    ids = {token: i for i, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        twice = next(t for i, t in enumerate(tokens) if ids[t] != i)
        raise TokenizerError(f"This GGUF file's vocabulary holds {twice!r} twice, so ids are ambiguous; {AGAIN}")
    names: dict[str, str] = {}
    # llama.cpp takes these ids for a SentencePiece vocabulary that does not name its own.
    stated = {
        "unk_token": ("unknown", 0),
        "bos_token": ("bos", 1),
        "eos_token": ("eos", 2),
        "pad_token": ("padding", None),
    }
    for name, (key, default) in stated.items():
        i = _token_id(metadata, f"{key}_token_id", len(tokens), default if model == "llama" else None)
        if i is not None:
            names[name] = tokens[i]
    if model == "gpt2":
        backend, adds_bos = _byte_level(metadata, ids, whole=_strings(metadata, "merges"))
    else:
        scores = list(_numbers(metadata, "scores", len(tokens), default=None))
        prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
        backend = sentencepiece_bpe(tokens, scores, kinds, unknown=names["unk_token"], prefix=bool(prefix))
        adds_bos = True
    add_tokens(backend, tokens, kinds, names)
    add_surrounding(
        backend,
        names.get("bos_token") if metadata.get("tokenizer.ggml.add_bos_token", adds_bos) else None,
        names.get("eos_token") if metadata.get("tokenizer.ggml.add_eos_token", False) else None,
    )
    ends = {_token_id(metadata, f"{key}_token_id", len(tokens), None) for key in ("eos", "eot", "eom")}
    ends.add(ids.get(names.get("eos_token", "")))
    template = metadata.get("tokenizer.chat_template")
    return Vocabulary(
        backend=backend,
        names=names,
        eos_ids=frozenset(i for i in ends if i is not None),
        chat_template=template if isinstance(template, str) and template else None,
        bos_id=ids.get(names.get("bos_token", "")),
    )


def add_surrounding(backend: tokenizers.Tokenizer, bos: str | None, eos: str | None) -> None:
    """Makes `backend` put `bos` before and `eos` after what it encodes; None: nothing."""
    around = [(token, backend.token_to_id(token)) for token in dict.fromkeys((bos, eos)) if token is not None]
    if around:
        single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=around)


def add_tokens(
    backend: tokenizers.Tokenizer, pieces: Sequence[str], kinds: Sequence[int], names: Mapping[str, str]
) -> None:
    """Makes control pieces and the named tokens special, and has user-defined pieces found whole in any text."""
    control = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == CONTROL]
    special = [AddedToken(t, normalized=False, special=True) for t in dict.fromkeys([*control, *names.values()])]
    backend.add_special_tokens(list(special))
    whole = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == USER_DEFINED]
    backend.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in whole])


def _byte_level(
    metadata: Mapping[str, object], ids: dict[str, int], whole: Sequence[str]
) -> tuple[tokenizers.Tokenizer, bool]:
    name = str(metadata.get("tokenizer.ggml.pre") or "default")
    cut = _CUTS.get(name)
    if cut is None:
        raise TokenizerError(
            f"This GGUF file asks for the pre-tokenizer {name!r}, which is not known here, and guessing one would give "
            f"wrong tokens; use the model's Hugging Face folder, or one of {', '.join(sorted(_CUTS))}."
        )
    pairs = [tuple(merge.split(" ")) for merge in whole]
    if wrong := next((merge for merge, pair in zip(whole, pairs, strict=True) if len(pair) != 2), None):
        raise TokenizerError(f"This GGUF file's merge {wrong!r} is not two tokens with a blank between; {AGAIN}")
    with refused_as("This GGUF file's merges do not fit its vocabulary"):
        merges = cast(list[tuple[str, str]], pairs)
        backend = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=cut.whole_words))
    if cut.nfc:
        backend.normalizer = normalizers.NFC()
    steps: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Digits(individual_digits=True)] if cut.digits else []
    if cut.split is not None:
        steps.append(pre_tokenizers.Split(Regex(cut.split), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut.split is None))
    backend.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    return backend, cut.bos


def sentencepiece_bpe(
    pieces: Sequence[str], scores: Sequence[float], kinds: Sequence[int], *, unknown: str, prefix: bool,
    collapse: bool = False, charsmap: bytes = b"",
) -> tokenizers.Tokenizer:  # fmt: skip
    """SentencePiece's BPE as a `tokenizers.Tokenizer`: of all neighbours whose union is a piece, the best score first.

    `prefix`: a space is put before the text (and, as llama.cpp does, after every special token). `collapse`: runs of
    spaces are one, and none stands at either end. `charsmap`: SentencePiece's compiled normalisation, or nothing.
    """
    byte_fallback = BYTE in kinds
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=_merges(pieces, scores, kinds),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=byte_fallback,
        )
    )
    steps: list[normalizers.Normalizer] = [normalizers.Precompiled(charsmap)] if charsmap else []
    if collapse:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex("^ +| +$"), "")]
    if prefix:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    backend.normalizer = normalizers.Sequence(steps)
    ends: list[decoders.Decoder] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*ends, decoders.Strip(" ", 1, 0)] if prefix else ends)
    return backend


def _merges(pieces: Sequence[str], scores: Sequence[float], kinds: Sequence[int]) -> list[tuple[str, str]]:
    """Every way in which two pieces make a third, best score first; control and byte pieces are never made or used."""
    known = {piece for piece, kind in zip(pieces, kinds, strict=True) if kind == NORMAL}
    found = [
        (-score, i, -cut, piece[:cut], piece[cut:])
        for i, (piece, score) in enumerate(zip(pieces, scores, strict=True))
        if piece in known
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    return [(left, right) for *_, left, right in sorted(found)]


def _array(metadata: Mapping[str, object], key: str) -> list[Any] | None:
    values = metadata.get(f"tokenizer.ggml.{key}")
    if values is None:
        return None
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise TokenizerError(f"This GGUF file's tokenizer.ggml.{key} is not a list; {AGAIN}")
    return list(cast(Iterable[Any], values))


def _strings(metadata: Mapping[str, object], key: str) -> list[str]:
    values = _array(metadata, key)
    if not values or not all(isinstance(v, str) for v in values):
        raise TokenizerError(f"This GGUF file has no usable tokenizer.ggml.{key} (a list of texts); {AGAIN}")
    return values


def _numbers(metadata: Mapping[str, object], key: str, count: int, default: float | None) -> list[float]:
    values = _array(metadata, key)
    if values is None and default is not None:
        return [default] * count
    if values is None or len(values) != count:
        has = "no entry" if values is None else f"{len(values)} entries"
        raise TokenizerError(f"This GGUF file has {count} tokens but {has} in tokenizer.ggml.{key}; {AGAIN}")
    try:
        return [float(cast(SupportsFloat, v)) for v in values]
    except (TypeError, ValueError) as why:
        raise TokenizerError(f"This GGUF file's tokenizer.ggml.{key} holds something not a number; {AGAIN}") from why


def _token_id(metadata: Mapping[str, object], key: str, count: int, default: int | None) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{key}", default)
    if value is None:
        return None
    if isinstance(value, (bool, str)) or not hasattr(value, "__index__"):
        raise TokenizerError(f"This GGUF file's tokenizer.ggml.{key} is {value!r}, not a token id; {AGAIN}")
    i = int(cast(SupportsIndex, value).__index__())
    if not 0 <= i < count:
        raise TokenizerError(f"This GGUF file's tokenizer.ggml.{key} is {i}, but it has {count} tokens; {AGAIN}")
    return i
