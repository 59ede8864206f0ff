"""A recipe: everything that decides what a run of training does, as a small TOML file.

model = "gpt-neo:2m"          # a new model by family and size, or a folder
tokens = 10_000_000           # predictions to learn from, over as many passes as that takes
context = 512
seed = 0

[optimiser]
learning_rate = 3e-3
schedule = "wsd"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from fairground.errors import TrainingError
from fairground.models.lora import LoraConfig
from fairground.training.optimiser import Method, Optimiser, Schedule

OBJECTIVES = ("lm", "dpo")


@dataclass(frozen=True, slots=True)
class Preference:
    """How preferences are learned (see preference.DirectPreference): β, and the share of labels taken to be wrong."""

    beta: float = 0.1
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one run; equal recipes on equal text give equal weights on one machine and number of threads.

    `tokens`: predictions in all (0: `passes` over the text). `batch_tokens`: predictions of a step; `part_tokens`: of
    the part of it that is computed at a time (0: the whole step). `context`: tokens of the longest stretch.
    `evaluate_every` and `checkpoint_every` are in steps (0: only at the end). `vocab_size`: of a tokenizer that is
    trained first where none is given. `precision`: of activations and products; weights are kept in float32 beside it.
    `objective`: "lm" (the next token; of a chat, what the assistant says) or "dpo" (pairs of answers, by `preference`).
    `cut`: conversations and pairs that are longer than the context lose their ends instead of being refused; plain text
    is always cut into stretches, none of which is lost.
    `lora`: adapters of a model are trained, and not its weights. `gradient_checkpointing`: a block's activations are
    computed again when they are wanted, which takes a third more time and far less memory. `patience`: measures without
    an improvement after which a run stops and keeps the best weights (0: it goes on to its end and keeps the last).
    """

    model: str
    tokens: int = 0
    passes: float = 1.0
    batch_tokens: int = 2048
    part_tokens: int = 0
    context: int = 512
    vocab_size: int = 4096
    seed: int = 0
    precision: str = "bfloat16"
    objective: str = "lm"
    cut: bool = False
    evaluate_every: int = 250
    checkpoint_every: int = 250
    optimiser: Optimiser = field(default_factory=Optimiser)
    preference: Preference = field(default_factory=Preference)
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False
    patience: int = 0

    def __post_init__(self) -> None:
        o, p = self.optimiser, self.preference
        checks: list[tuple[str, Any, bool, str]] = [
            *((name, getattr(self, name), _whole(getattr(self, name), 1), "a whole number above 0")
              for name in ("batch_tokens", "context", "vocab_size")),
            *((name, getattr(self, name), _whole(getattr(self, name), 0), "a whole number from 0")
              for name in ("tokens", "part_tokens", "seed", "evaluate_every", "checkpoint_every", "patience")),
            ("gradient_checkpointing", self.gradient_checkpointing, isinstance(self.gradient_checkpointing, bool),
             "true or false"),
            ("model", self.model, isinstance(self.model, str) and bool(self.model), "FAMILY:SIZE or a folder"),
            ("precision", self.precision, self.precision in ("bfloat16", "float32"), "bfloat16 or float32"),
            ("objective", self.objective, self.objective in OBJECTIVES, " or ".join(OBJECTIVES)),
            ("cut", self.cut, isinstance(self.cut, bool), "true or false"),
            ("preference.beta", p.beta, _number(p.beta), "a number above 0"),
            ("preference.label_smoothing", p.label_smoothing,
             _share(p.label_smoothing) and p.label_smoothing < 0.5, "a number from 0 and below 0.5"),
            ("optimiser.method", o.method, o.method in get_args(Method), ", ".join(get_args(Method))),
            ("optimiser.schedule", o.schedule, o.schedule in get_args(Schedule), ", ".join(get_args(Schedule))),
            ("passes", self.passes, _number(self.passes), "a number above 0"),
            ("optimiser.learning_rate", o.learning_rate, o.learning_rate is None or _number(o.learning_rate),
             "a number above 0"),
            ("optimiser.eps", o.eps, _number(o.eps), "a number above 0"),
            *((f"optimiser.{name}", getattr(o, name), _number(getattr(o, name), zero=True), "a number from 0")
              for name in ("weight_decay", "clip")),
            *((f"optimiser.{name}", getattr(o, name), _share(getattr(o, name)), "a number from 0 to 1")
              for name in ("warmup", "decay", "final", "beta1", "beta2")),
        ]  # fmt: skip
        for name, value, good, wanted in checks:
            if not good:
                raise TrainingError(f"The recipe gives {name} as {value!r}, but it must be {wanted}; correct it.")
        if o.warmup + o.decay > 1:
            raise TrainingError("The recipe's warmup and decay are more than the whole run; make one of them shorter.")
        if self.patience and not self.evaluate_every:
            raise TrainingError(
                "The recipe stops early (patience) but measures only at the end; give evaluate_every a number of steps."
            )

    @property
    def steps(self) -> int:
        """Optimiser steps: the last one may reach past `tokens`."""
        return -(-self.tokens // self.batch_tokens)

    def settled(self, predictions: int, parameters: int, *, new: bool) -> Recipe:
        """This recipe with what it leaves open decided: the number of tokens, and the learning rate.

        A new model's rate is 3e-3 at two million parameters and falls with their number to the power 0.39, which gives
        GPT-3's rates (Brown et al., 2020, table 2.1) from 125M up; a trained model's is 1e-4, and 1e-6 where it learns
        preferences (Rafailov et al., 2023, appendix B); its adapters' is ten times that (Schulman et al., 2025, "LoRA
        Without Regret").
        """
        tokens = self.tokens or max(1, round(self.passes * predictions))
        rate = self.optimiser.learning_rate
        if rate is None:
            rate = 1e-6 if self.objective == "dpo" else 1e-4
            rate *= 10 if self.lora else 1
            if new:
                rate = float(f"{3e-3 * (2e6 / max(parameters, 2e6)) ** 0.39:.2g}")
        return replace(self, tokens=tokens, optimiser=replace(self.optimiser, learning_rate=rate))

    def as_dict(self) -> dict[str, Any]:
        """For checkpoints and cards."""
        return asdict(self)


TABLES = {
    "optimiser": Optimiser,
    "preference": Preference,
    "lora": LoraConfig,
}  # what a recipe has as tables of their own


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any, *, zero: bool = False) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and value < float("inf") and (value > 0 or (zero and value == 0))


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def read_recipe(named: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a .toml file, or the default one for a model's name or folder; `changes` that are not None win.

    Raises TrainingError for a file that cannot be read, a key that no recipe has, or a value outside its range.
    """
    table: dict[str, Any] = {"model": named}
    if named.endswith(".toml"):
        try:
            table = tomllib.loads(Path(named).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise TrainingError(f"There is no recipe {named}; check the path.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise TrainingError(f"{named} is not a recipe in TOML ({error}); correct it.") from None
        if "model" not in table:
            raise TrainingError(f'{named} names no model; add a line like model = "gpt-neo:2m".')
    recipe: Recipe = _checked(Recipe, table, named)
    return replace(recipe, **{key: value for key, value in (changes or {}).items() if value is not None})


def recipe_of(table: Mapping[str, Any]) -> Recipe:
    """The recipe that a table stands for, as a file holds it. Raises TrainingError as `read_recipe`."""
    made: Recipe = _checked(Recipe, table, "The recipe")
    return made


def _checked(kind: Any, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise TrainingError(f"{where} must be a table of settings, not {table!r}; correct it.")
    known = {f.name for f in fields(kind)}
    unknown = [key for key in table if key not in known]
    if unknown:
        raise TrainingError(
            f"{where} has the key {unknown[0]!r}, which no recipe has; it knows {', '.join(sorted(known))}."
        )
    if kind is Recipe:
        within = {name: _checked(TABLES[name], table[name], f"{where}, [{name}]") for name in TABLES if name in table}
        table = {**table, **within}
    if kind is LoraConfig and "rank" not in table:
        raise TrainingError(f"{where} gives LoRA no rank; add a line like rank = 16.")
    if kind is LoraConfig and isinstance(targets := table.get("targets"), str | list):
        table = {**table, "targets": (targets,) if isinstance(targets, str) else tuple(targets)}
    return kind(**table)
