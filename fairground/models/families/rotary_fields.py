"""The rotary fields of published configs: the older `rope_theta` and `rope_scaling`, the newer `rope_parameters`."""

from __future__ import annotations

import math
from typing import Any

from fairground.errors import ConfigError
from fairground.models.config import Rotary, RotaryScaling
from fairground.models.families.family import Fields

# What each kind of scaling may state beside its type.
KINDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        *("factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
        *("original_max_position_embeddings", "truncate"),
    ),
}


def read_rotary(fields: Fields, head_dim: int, context: int) -> Rotary:
    """Raises ConfigError for a scaling that is not known, or a field in it that is not understood."""
    fields.must_be("rope_interleaved", False)
    stated: dict[str, Any] = {**fields.get("rope_scaling", {}), **fields.get("rope_parameters", {})}
    theta = stated.pop("rope_theta", None) or fields.number("rope_theta", 10_000.0)
    fields.must_be("partial_rotary_factor", 1.0)
    if stated.pop("partial_rotary_factor", 1.0) not in (None, 1.0):
        raise ConfigError("config.json rotates only a part of each head, which this family does not do here.")
    kind, older = stated.pop("rope_type", None), stated.pop("type", None)
    kind = kind or older or "default"
    if kind not in KINDS:
        raise ConfigError(f"config.json asks for the rotary scaling {kind!r}; Fairground knows {', '.join(KINDS)}.")
    unknown = set(stated) - set(KINDS[kind])
    if unknown:
        raise ConfigError(f"config.json's rotary scaling has {min(unknown)!r}, which {kind!r} scaling does not know.")
    original = fields.get("original_max_position_embeddings")
    if original is not None:
        stated["original_max_position_embeddings"] = original
    return Rotary(head_dim, float(theta), scaling=_scaling(kind, stated, context))


def _scaling(kind: str, stated: dict[str, Any], context: int) -> RotaryScaling | None:
    if kind == "default":
        return None
    for name, value in stated.items():
        if value is not None and (not isinstance(value, int | float) or not math.isfinite(value)):
            raise ConfigError(f"config.json's rotary scaling gives {name} as {value!r}, but it must be a number.")
    original = int(stated.get("original_max_position_embeddings") or context)
    factor = stated.get("factor")
    if factor is None and kind == "yarn":
        factor = context / original
    if factor is None or factor < 1:
        raise ConfigError(f"config.json's {kind} rotary scaling has the factor {factor!r}; it must be 1 or more.")
    if kind == "llama3":
        if "low_freq_factor" not in stated or "high_freq_factor" not in stated:
            raise ConfigError("config.json's llama3 rotary scaling lacks low_freq_factor or high_freq_factor.")
        low, high = float(stated["low_freq_factor"]), float(stated["high_freq_factor"])
        return RotaryScaling("llama3", float(factor), original, low, high)
    if kind == "yarn":
        return RotaryScaling(
            "yarn",
            float(factor),
            original,
            beta_fast=float(stated.get("beta_fast") or 32),
            beta_slow=float(stated.get("beta_slow") or 1),
            attention_factor=_yarn_attention(float(factor), stated),
            truncate=bool(stated.get("truncate", True)),
        )
    return RotaryScaling("linear" if kind == "linear" else "dynamic", float(factor), original)


def _yarn_attention(factor: float, stated: dict[str, Any]) -> float:
    """0.1 ln(s) + 1 (Peng et al., 2023, equation 22), or the quotient of two such where a config gives both scales."""

    def grown(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if stated.get("attention_factor") is not None:
        return float(stated["attention_factor"])
    if stated.get("mscale") and stated.get("mscale_all_dim"):
        return grown(stated["mscale"]) / grown(stated["mscale_all_dim"])
    return grown(1.0)


def write_rotary(rotary: Rotary) -> dict[str, Any]:
    """The older fields, which every release of Transformers reads."""
    written: dict[str, Any] = {"rope_theta": rotary.theta}
    scaling = rotary.scaling
    if scaling:
        stated: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind != "linear":
            stated["original_max_position_embeddings"] = scaling.original_context
        if scaling.kind == "llama3":
            stated["low_freq_factor"] = scaling.low_frequency_factor
            stated["high_freq_factor"] = scaling.high_frequency_factor
        if scaling.kind == "yarn":
            stated["attention_factor"] = scaling.attention_factor
            stated["beta_fast"], stated["beta_slow"] = scaling.beta_fast, scaling.beta_slow
            stated["truncate"] = scaling.truncate
        written["rope_scaling"] = stated
    return written
