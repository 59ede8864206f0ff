"""What a family file states, and how a config's fields are read so that none is overlooked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fairground.errors import ConfigError
from fairground.models.config import DecoderConfig

# Fields that say how a model was trained, is sampled from or is filed: none changes what a forward pass computes.
HARMLESS = frozenset(
    """_name_or_path _attn_implementation architectures attention_dropout attn_pdrop auto_map bos_token_id
    classifier_dropout dtype embd_pdrop embed_dropout eos_token_id gradient_checkpointing id2label initializer_range
    is_llama_config label2id max_length model_type num_labels output_attentions output_hidden_states pad_token_id
    pretraining_tp problem_type resid_dropout resid_pdrop return_dict summary_activation summary_first_dropout
    summary_proj_to_labels summary_type summary_use_proj task_specific_params tokenizer_class torch_dtype
    transformers.js_config transformers_version unk_token_id unsloth_fixed unsloth_version use_cache""".split()
)


class Fields:
    """A published config, read field by field; `finish` refuses what nobody read.

    Every reader raises ConfigError naming the field, its value and what was expected.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._seen: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """The field's value; the default where it is absent or null."""
        self._seen.add(name)
        value = self._config.get(name)
        return default if value is None else value

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number above 0."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"config.json gives {name} as {value!r}, but it must be a whole number above 0.")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ConfigError(f"config.json gives {name} as {value!r}, but it must be a number above 0.")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise ConfigError(f"config.json gives {name} as {value!r}, but it must be true or false.")
        return value

    def even_share(self, width: int, heads: int) -> int:
        """The width of one head."""
        if width % heads:
            raise ConfigError(f"config.json has {heads} attention heads, which do not divide the width {width} evenly.")
        return width // heads

    def one_of(self, name: str, known: Mapping[str, Any], default: str) -> Any:
        """The meaning of a word."""
        value = self.get(name, default)
        if value not in known:
            raise ConfigError(f"config.json gives {name} as {value!r}; Fairground knows {', '.join(known)}.")
        return known[value]

    def must_be(self, name: str, expected: object) -> None:
        """A field whose other values would mean mathematics that we do not do."""
        value = self.get(name, expected)
        if value != expected:
            raise ConfigError(f"config.json gives {name} as {value!r}; Fairground runs only {name} = {expected!r}.")

    def finish(self) -> None:
        """Raises ConfigError for a field that was neither read nor is known to be harmless."""
        left = [name for name in self._config if name not in self._seen and name not in HARMLESS]
        if left:
            raise ConfigError(
                f"config.json has the field {left[0]!r} ({self._config[left[0]]!r}), which Fairground does not "
                "understand and which may change the mathematics, so the model was not loaded."
            )


# What each published word for an activation computes; "gelu_new" and "gelu_pytorch_tanh" are one function.
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "silu": "silu",
    "relu": "relu",
}
PUBLISHED_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "silu": "silu", "relu": "relu"}


@dataclass(frozen=True, slots=True)
class Weight:
    """One published tensor and where it lives in our decoder; `{i}` stands for the layer.

    A published tensor that holds several of ours has them one after another along the output dimension. `transposed`:
    published as [in, out] (GPT-2's Conv1D) where ours is [out, in]. `paired`: the rows of each head are published with
    rotated pairs adjacent (GGUF's LLaMA) where ours has them half a head apart.
    """

    published: str
    ours: tuple[str, ...]
    transposed: bool = False
    paired: bool = False

    def at(self, layer: int) -> Weight:
        """This weight in one layer."""
        ours = tuple(name.replace("{i}", str(layer)) for name in self.ours)
        return Weight(self.published.replace("{i}", str(layer)), ours, self.transposed, self.paired)


def weight(published: str, *ours: str, transposed: bool = False, paired: bool = False) -> Weight:
    """A row of a table of weight names."""
    return Weight(published, ours, transposed, paired)


def linear(published: str, *ours: str, transposed: bool = False, paired: bool = False) -> tuple[Weight, Weight]:
    """The two rows of a linear layer; the bias counts only where our decoder has one."""
    return (
        Weight(f"{published}.weight", tuple(f"{name}.weight" for name in ours), transposed, paired),
        Weight(f"{published}.bias", tuple(f"{name}.bias" for name in ours), False, paired),
    )


@dataclass(frozen=True, slots=True)
class Family:
    """One family of models.

    `read` turns published config fields into ours; `write` is its inverse. `weights` is the one table of names, read in
    either direction. `buffers` are endings of published tensors that hold no weights (old checkpoints carry masks and
    frequencies). `prefix` may be absent from published names: GPT-2's first release has none.
    """

    name: str
    architecture: str
    model_type: str
    read: Callable[[Fields], DecoderConfig]
    write: Callable[[DecoderConfig], dict[str, Any]]
    weights: tuple[Weight, ...]
    buffers: tuple[str, ...] = ()
    prefix: str = ""

    def decoder_config(self, config: Mapping[str, Any]) -> DecoderConfig:
        """Our config from a published one. Raises ConfigError for anything that is not understood."""
        fields = Fields(config)
        decoder = self.read(fields)
        fields.finish()
        return decoder


def expand(weights: tuple[Weight, ...], layers: int) -> Iterator[Weight]:
    """The table with every layer written out."""
    for row in weights:
        if "{i}" in row.published:
            yield from (row.at(layer) for layer in range(layers))
        else:
            yield row
