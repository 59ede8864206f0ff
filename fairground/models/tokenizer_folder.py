"""A folder's tokenizer files, read so that ids equal those of Transformers' AutoTokenizer.

lm-evaluation-harness tokenizes with AutoTokenizer, and published numbers come from there. Transformers 5 does not
always run tokenizer.json as it stands: where a folder names LlamaTokenizer or GPT2Tokenizer, it takes the vocabulary,
the merges and the post-processor from the file and puts the class's own pre-tokenizer and decoder around them
(`TokenizersBackend.convert_to_native_format`). So do we.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from fairground.errors import TokenizerError
from fairground.models.sentencepiece_model import from_sentencepiece
from fairground.models.vocabulary import AGAIN, SPACE, Vocabulary, refused_as

Json = dict[str, Any]

# Which tokenizer class Transformers has for a model type, for the types whose class it builds anew (above). Where a
# folder of another type names such a class, `tokenizer.json` is run as it stands.
_CLASS_OF_MODEL = dict.fromkeys(("gpt2", "gpt_neo", "gptj"), "GPT2Tokenizer")
_AS_IT_STANDS = ("mistral", "mixtral", "ministral", "mistral3")

# The special tokens that those classes have where a folder does not name any.
_CLASS_NAMES = {
    "LlamaTokenizer": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "GPT2Tokenizer": dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
}
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def from_folder(folder: Path) -> Vocabulary:
    """Reads tokenizer.json, or else tokenizer.model, and what stands beside it.

    Raises TokenizerError for a folder without either, and for a damaged file.
    """
    config = _read(folder / "tokenizer_config.json")
    model_config = _read(folder / "config.json")
    if "added_tokens_decoder" not in config:  # Transformers reads the older file only where the newer one lacks this
        config = {**config, **_read(folder / "special_tokens_map.json")}
    file, model_file = folder / "tokenizer.json", folder / "tokenizer.model"
    data = _read(file)
    if not data and not model_file.is_file():
        raise TokenizerError(
            f"{folder} has neither tokenizer.json nor tokenizer.model, so its text cannot be tokenized; "
            "fetch one of them from where the model came from."
        )
    if data and not isinstance(data.get("model"), dict):
        raise TokenizerError(f"{file} holds no tokenizer model; {AGAIN}")
    vocab = data.get("model", {}).get("vocab")
    if isinstance(vocab, dict) and len(set(map(str, vocab.values()))) != len(vocab):
        raise TokenizerError(f"{file} gives two tokens the same id; {AGAIN}")
    class_ = _class(config, model_config, data)
    defaults = _CLASS_NAMES.get(class_ or "", {})
    others = [key for key, value in config.items() if key.endswith("_token") and isinstance(value, (str, dict))]
    names = {
        name: text
        for name in dict.fromkeys((*_NAMES, *others))
        if (text := _text(config.get(name, defaults.get(name)))) is not None
    }
    template = _chat_template(folder, config)
    if data:
        backend = _backend(data, class_, config, file)
        _add_tokens(backend, data, config, names, file)
    else:
        # A bare SentencePiece model does not say; LLaMA's and Mistral's were trained with bos and without eos.
        adds_bos, adds_eos = bool(config.get("add_bos_token", True)), bool(config.get("add_eos_token", False))
        built = from_sentencepiece(model_file, names=names, adds_bos=adds_bos, adds_eos=adds_eos)
        backend, names = built.backend, dict(built.names)
        _add_tokens(backend, data, config, names, model_file)
    eos_ids = {
        *_ids(model_config, "eos_token_id", folder / "config.json"),
        *_ids(_read(folder / "generation_config.json"), "eos_token_id", folder / "generation_config.json"),
    }
    if (eos := backend.token_to_id(names.get("eos_token", ""))) is not None:
        eos_ids.add(eos)
    bos = backend.token_to_id(names.get("bos_token", ""))
    if bos is None and not config:  # nothing but the model's config says what a text begins with
        bos = next(iter(_ids(model_config, "bos_token_id", folder / "config.json")), None)
    return Vocabulary(
        backend=backend,
        names=names,
        eos_ids=frozenset(eos_ids),
        chat_template=template,
        clean_up=bool(config.get("clean_up_tokenization_spaces", False)),
        bos_id=bos,
    )


def _class(config: Json, model_config: Json, data: Json) -> str | None:
    """The class that AutoTokenizer builds anew for this folder; None where it runs tokenizer.json as it stands."""
    named = config.get("tokenizer_class") or model_config.get("tokenizer_class")
    named = str(named).removesuffix("Fast") if named else None
    model_type = model_config.get("model_type")
    if model_type in _AS_IT_STANDS:
        return None
    class_ = named or _CLASS_OF_MODEL.get(str(model_type))
    if class_ not in _CLASS_NAMES or data.get("model", {}).get("type", "BPE") != "BPE":
        return None
    if class_ == "LlamaTokenizer" and named and _is_byte_level(data):
        return None  # LLaMA 3's files name the class of LLaMA 2
    return class_


def _is_byte_level(data: Json) -> bool:
    return any('"ByteLevel"' in json.dumps(data.get(part)) for part in ("pre_tokenizer", "decoder"))


def _backend(data: Json, class_: str | None, config: Json, file: Path) -> tokenizers.Tokenizer:
    if class_ is not None:
        data = {**data, "normalizer": None, "added_tokens": [], "model": {**data["model"], "unk_token": None}}
        data["model"] |= {"type": "BPE", "dropout": None, "ignore_merges": False}
        prefix = config.get("add_prefix_space")
        if class_ == "LlamaTokenizer":
            prefix = prefix is not False
            scheme = ("always" if config.get("legacy", False) else "first") if prefix else "never"
            data["model"] |= {"byte_fallback": True, "fuse_unk": True}
            data["pre_tokenizer"] = {
                "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False,
            }  # fmt: skip
            steps: list[Json] = [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ]
            strip: Json = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
            data["decoder"] = {"type": "Sequence", "decoders": [*steps, strip] if prefix else steps}
        else:
            data["model"] |= {"byte_fallback": False, "fuse_unk": False}
            common = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
            data["pre_tokenizer"] = {**common, "add_prefix_space": bool(prefix)}
            data["decoder"] = {**common, "add_prefix_space": True}
    with refused_as(f"{file} is damaged"):
        backend = tokenizers.Tokenizer.from_str(json.dumps(data))
    backend.no_truncation()
    backend.no_padding()
    return backend


def _add_tokens(backend: tokenizers.Tokenizer, data: Json, config: Json, names: Mapping[str, str], file: Path) -> None:
    """Adds the tokens that stand outside the vocabulary, in Transformers' order: new ones get their ids by it."""
    listed = config.get("added_tokens_decoder")
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    try:
        if listed is None:
            tokens = [_added(token) for token in data.get("added_tokens", ())]
        else:
            tokens = [_added(listed[i]) for i in sorted(listed, key=int)]
        named = [config.get(name, text) for name, text in names.items()]
        special = [_added(t, special=True) for t in [*named, *(extra.values() if isinstance(extra, dict) else extra)]]
    except (TypeError, ValueError, AttributeError, LookupError) as why:
        raise TokenizerError(f"The added tokens beside {file} are damaged ({why}); fetch the files again.") from why
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for token in [*tokens, *special]:
        if token.content not in known:
            backend.add_tokens([token])
            known.add(token.content)


def _added(token: Any, **more: bool) -> AddedToken:
    fields = dict(token) if isinstance(token, dict) else {"content": token}
    return AddedToken(**{k: v for k, v in fields.items() if k not in ("id", "__type")} | more)


def _chat_template(folder: Path, config: Json) -> str | None:
    """The folder's own file, else the config's text, else the one called default (or the only one) of its list."""
    for file in (folder / "chat_template.jinja", folder / "chat_templates" / "default.jinja"):
        if file.is_file():
            try:
                return file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as why:
                raise TokenizerError(f"{file} cannot be read ({why}); fetch it again.") from why
    stated = config.get("chat_template")
    if isinstance(stated, str) or stated is None:
        return stated or None
    try:
        templates = {str(t["name"]): str(t["template"]) for t in stated}
    except (TypeError, KeyError) as why:
        raise TokenizerError(
            f"{folder / 'tokenizer_config.json'} lists chat templates without name or text; fetch the file again."
        ) from why
    return templates.get("default") or (next(iter(templates.values())) if len(templates) == 1 else None)


def _text(token: Any) -> str | None:
    """A special token's text, which files give bare or with its properties."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _ids(data: Json, key: str, file: Path) -> list[int]:
    value = data.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise TokenizerError(f"{file} has {value!r} for {key}, which is not a token id; fetch the file again.")
    return ids


def _read(file: Path) -> Json:
    """A JSON file's object; an empty one where the file is not there."""
    if not file.is_file():
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as why:
        raise TokenizerError(f"{file} is damaged and cannot be read ({why}); fetch it again.") from why
    if not isinstance(data, dict):
        raise TokenizerError(f"{file} does not hold a JSON object; fetch it again.")
    return data
