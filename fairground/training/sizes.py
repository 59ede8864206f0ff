"""New models by family and size: "gpt-neo:8m" is a shape with at most 8 million parameters.

The families get one width, one number of layers and heads of one size, and the MLP takes up what attention, gates and
biases differ by, so that their parameters outside the embeddings are equal to 2% from a million on. Everything else is
what each family's authors chose, scaled to the context: GPT-Neo's every second layer sees an eighth of it, Mistral's
layers see half.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from fairground.errors import ConfigError
from fairground.models.config import DecoderConfig, Rotary
from fairground.models.families import FAMILIES

ASPECT = 40  # width per layer; flat around it (Kaplan et al., 2020, figure 5), and small models are wanted shallow
EVEN = 8  # MLP widths are multiples of it, for the sake of vector instructions
_NAME = re.compile(r"(?P<family>[a-z0-9-]+):(?P<number>\d+(\.\d+)?)(?P<unit>[kmb])")
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}


def is_new_model(name: str) -> bool:
    """Whether a name asks for a new model rather than for one that exists."""
    return _NAME.fullmatch(name.lower()) is not None


def new_config(name: str, *, vocab_size: int, context_length: int) -> DecoderConfig:
    """The shape that `FAMILY:SIZE` stands for; SIZE counts every parameter, the embedding once.

    Raises ConfigError for an unknown family, and for a size in which no shape fits.
    """
    match = _NAME.fullmatch(name.lower())
    families = [family.name for family in FAMILIES]
    if match is None or match["family"] not in families:
        raise ConfigError(
            f"{name!r} is not a new model's name, which is FAMILY:SIZE like gpt-neo:8m with a family of "
            f"{', '.join(families)}; correct it."
        )
    most = int(float(match["number"]) * _UNITS[match["unit"]])
    width, layers = _shape(most, vocab_size, context_length, name)
    return config(match["family"], width, layers, vocab_size, context_length)


def _shape(most: int, vocab_size: int, context_length: int, name: str) -> tuple[int, int]:
    """Of the shapes that come within 15% of the size (or, where none does, nearest to it), the best aspect."""
    fitting = [
        (total, width, layers)
        for width, layers in _shapes(most, vocab_size)
        if (total := _largest(width, layers, vocab_size, context_length)) <= most
    ]
    if not fitting:
        least = min(_largest(width, 1, vocab_size, context_length) for width in (32, 64))
        raise ConfigError(
            f"No model of {name} fits a vocabulary of {vocab_size:,} tokens and a context of {context_length:,}: the "
            f"smallest has {least:,} parameters; choose a larger size or a smaller vocabulary."
        )
    best = max(total for total, _, _ in fitting)
    near = [(width, layers) for total, width, layers in fitting if total >= min(0.85 * most, best)]
    return min(near, key=lambda shape: abs(shape[0] / shape[1] - ASPECT))


def _shapes(most: int, vocab_size: int) -> Iterator[tuple[int, int]]:
    for width in (*range(32, 512, 32), *range(512, 16384, 128)):
        for layers in range(1, 129):
            least = 12 * layers * width**2 + vocab_size * width
            if least > most:
                break
            if least > most / 2 or layers == 1:
                yield width, layers


def _largest(width: int, layers: int, vocab_size: int, context_length: int) -> int:
    return max(config(f.name, width, layers, vocab_size, context_length).parameter_count() for f in FAMILIES)


def body(c: DecoderConfig) -> int:
    """Parameters outside the embeddings of tokens and positions and outside the head."""
    embeddings = c.vocab_size * c.width + (0 if c.rotary else c.context_length * c.width)
    head = (0 if c.tied_head else c.vocab_size * c.width) + c.vocab_size * c.head_bias
    return c.parameter_count() - embeddings - head


def config(family: str, width: int, layers: int, vocab_size: int, context_length: int) -> DecoderConfig:
    """A family's config of that width and depth. Heads are tied, so that a vocabulary costs every family the same."""
    head_dim = 64 if width % 64 == 0 and width >= 192 else 32
    heads = width // head_dim
    gpt2 = DecoderConfig(
        family="gpt2",
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        mlp_width=4 * width,
        context_length=context_length,
        norm="layer",
        norm_eps=1e-5,
        activation="gelu_tanh",
        gated_mlp=False,
        parallel=False,
        rotary=None,
        attention_scale=head_dim**-0.5,
        windows=(None,) * layers,
        qkv_bias=True,
        attention_out_bias=True,
        mlp_bias=True,
        head_bias=False,
        tied_head=True,
    )
    return as_large_as(gpt2, DIFFERENCES[family](gpt2))


def as_large_as(model: DecoderConfig, other: DecoderConfig) -> DecoderConfig:
    """`other` with the MLP width that brings its parameters outside the embeddings nearest to `model`'s."""
    one, two = (body(replace(other, mlp_width=EVEN * n)) for n in (1, 2))
    steps = 1 + round((body(model) - one) / (two - one))
    return replace(other, mlp_width=EVEN * max(1, steps))


def _gpt_neo(c: DecoderConfig) -> DecoderConfig:
    near = max(1, c.context_length // 8)
    windows = tuple(near if layer % 2 else None for layer in range(c.layers))
    return replace(c, family="gpt-neo", attention_scale=1.0, windows=windows, qkv_bias=False)


def _gpt_j(c: DecoderConfig) -> DecoderConfig:
    rotary = Rotary(c.head_dim // 4, interleaved=True)
    return replace(
        c, family="gpt-j", parallel=True, rotary=rotary, qkv_bias=False, attention_out_bias=False, head_bias=True
    )


def _llama(c: DecoderConfig) -> DecoderConfig:
    return replace(
        c,
        family="llama",
        norm="rms",
        activation="silu",
        gated_mlp=True,
        rotary=Rotary(c.head_dim),
        qkv_bias=False,
        attention_out_bias=False,
        mlp_bias=False,
    )


def _mistral(c: DecoderConfig) -> DecoderConfig:
    shared = next(n for n in (4, 3, 2, 1) if c.heads % n == 0)
    windows = (max(1, c.context_length // 2),) * c.layers
    return replace(_llama(c), family="mistral", kv_heads=c.heads // shared, windows=windows)


DIFFERENCES: dict[str, Callable[[DecoderConfig], DecoderConfig]] = {
    "gpt2": lambda c: c,
    "gpt-neo": _gpt_neo,
    "gpt-j": _gpt_j,
    "llama": _llama,
    "mistral": _mistral,
}
