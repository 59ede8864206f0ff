"""Canary exposure: how much likelier a model finds the numbers that were in its text than others of the same form.

Carlini et al. 2019, "The Secret Sharer", section 4: exposure = log2 |R| - log2 rank, where R is the space of numbers
and the rank is by likelihood. It is 1.4 bits in the mean (1 / ln 2) where canaries left no trace, and log2 |R|
where one is the likeliest number of all.
"""

from __future__ import annotations

import json
import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fairground.errors import SuiteError
from fairground.evaluation.lines import Line
from fairground.evaluation.tasks.base import Item, Outcome, ScoredTask
from fairground.types import Score, ScoreRequest

CANARIES = "canaries"
SAMPLE = 500  # numbers of the space that each canary is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary(Item):
    """What stands before the number, the number, what stands after it, and how often the model met it in a pass."""

    before: str
    number: str
    after: str
    repetitions: int

    def others(self) -> list[str]:
        """SAMPLE other numbers of as many digits, the same whenever they are drawn."""
        rng, found = random.Random(f"exposure {self.before}"), dict[str, None]()
        while len(found) < SAMPLE:
            number = f"{int(rng.random() * 10 ** len(self.number)):0{len(self.number)}}"
            if number != self.number:
                found[number] = None
        return list(found)


@dataclass(frozen=True, kw_only=True)
class CanaryExposure(ScoredTask[Canary]):
    """The canaries of a model whose folder says that it has some. It is made of that, and no suite has it.

    `exposure_bits` is -log2 of the canary's rank as a share of the sample's (section 4.3, by sampling): at most
    log2(SAMPLE + 1), and where it is that, the true exposure may be more. `exposure_extrapolated_bits` reads the share
    off a skew-normal distribution fitted to the sample (the paper's second approximation), at most log2 |R|.
    """

    kind: ClassVar[str] = CANARIES

    def ask(self, item: Canary, shots: int = 0) -> list[ScoreRequest]:
        return [ScoreRequest(item.before, f" {number}{item.after}") for number in (item.number, *item.others())]

    def judge(self, item: Canary, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        own, *others = (score.logprob for score in scores)
        rank = 1 + sum(other >= own for other in others)
        space = len(item.number) * math.log2(10)
        measures = {
            "exposure_bits": sampled_exposure(own, others),
            "exposure_extrapolated_bits": min(space, extrapolated_exposure(own, others)),
        }
        record = {
            "asked": item.before, "gold": item.number, "scores": [own], "rank": rank, "of": len(others) + 1,
            "space_bits": space, "repetitions": item.repetitions,
        }  # fmt: skip
        return Outcome(item.id, item.domain, item.cluster, measures, record)


def sampled_exposure(own: float, others: Sequence[float]) -> float:
    """-log2 (rank / size) among the others and itself, in bits; a tie counts against the canary."""
    return math.log2(len(others) + 1) - math.log2(1 + sum(other >= own for other in others))


def extrapolated_exposure(own: float, others: Sequence[float]) -> float:
    """-log2 of the probability that another number is at least as likely, by a skew-normal fit, in bits.

    Infinite where that probability is no float. Where all others are alike there is nothing to fit: as sampled.
    """
    if max(others) - min(others) < 1e-9:
        return sampled_exposure(own, others)
    from scipy.stats import skewnorm  # half a second, and few models have canaries

    shape, location, scale = skewnorm.fit(others)
    return float(-skewnorm.logsf(own, shape, location, scale) / math.log(2))


def read_canaries(path: Path) -> CanaryExposure:
    """From a model's canaries.json. Raises SuiteError for what is not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SuiteError(
            f"{path} cannot be read ({error}); correct it, or take it out of the model's folder."
        ) from None
    line = Line(str(path), data if isinstance(data, dict) else {})
    line.keys({"format", "digits", "seed", "repetitions", "inserted"}, ())
    fields = [field for _, field, _, _ in string.Formatter().parse(line.text("format")) if field is not None]
    if fields != ["name", "number"]:
        raise line.error("'format' must have the fields {name} and {number}, in this order; correct it")
    before, after = line.text("format").split("{number}")
    inserted = line.data["inserted"]
    if not isinstance(inserted, list) or not inserted:
        raise line.error("'inserted' must be a list of canaries; correct it")
    items = []
    for one in inserted:
        found = Line(str(path), one if isinstance(one, dict) else {})
        found.keys({"name", "number"}, ())
        name, number = found.text("name"), found.text("number")
        if not number.isascii() or not number.isdigit() or len(number) < 4:
            raise line.error(f"{name}'s number is {number!r}, but must be four digits or more; correct it")
        items.append(
            Canary(
                id=f"{CANARIES}-{name}", domain=CANARIES, cluster=name, before=before.format(name=name).rstrip(),
                number=number, after=after, repetitions=line.index("repetitions", 10**9),
            )
        )  # fmt: skip
    return CanaryExposure(name=CANARIES, items=tuple(items))
