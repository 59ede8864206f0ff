"""The leaderboard's columns: where each number is found, its unit, which way is better, and how it is printed.

Written once, so that the terminal's table and the page cannot disagree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "–"
_MINUS = "−"
# What a terminal would obey, XML forbids or UTF-8 cannot encode: C0 and C1 controls but tab and newline, bidirectional
# overrides, lone surrogates, and the two non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number with its 95% interval (None where there is none) and how many items it rests on."""

    value: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of the leaderboard. Proportions are stored from 0 to 1 and printed in percent."""

    metric: str
    title: str
    unit: str
    higher_is_better: bool = True
    meaning: str = ""

    def of(self, model: Mapping[str, Any]) -> Estimate | None:
        """The model's number in this column, None where it was not measured or says nothing: the floor's speed."""
        if is_floor(model) and self.metric in ("ttft_ms", "tokens_per_s"):
            return None
        found = estimate((model.get("metrics") or {}).get(self.metric))
        if found is None and self.metric == "relations":
            found = task_accuracy(model, "relations")
        return found

    def number(self, value: float) -> str:
        """The value without its unit: "54.2"."""
        if self.unit == "%":
            return minus(f"{100 * value:.1f}")
        if self.metric in ("relevance", "brier", "bits_per_byte", "judged"):
            return minus(f"{value:.2f}")
        if abs(value) >= 999_500:
            return minus(f"{value / 1e6:,.1f}M")
        if abs(value) >= 10_000:
            return minus(f"{value / 1000:,.0f}k")
        if 0 < value < 0.05:
            return "<0.1"  # a guesser's milliseconds, which are not 0
        return minus(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}")

    def interval(self, found: Estimate) -> str:
        """The 95% interval without brackets: "47–61"; empty where there is none."""
        if found.low is None or found.high is None:
            return ""
        if self.unit == "%" and found.high - found.low >= 0.04:
            # Tenths of a point say nothing where the interval is many points wide.
            low, high = minus(f"{100 * found.low:.0f}"), minus(f"{100 * found.high:.0f}")
        else:
            low, high = self.number(found.low), self.number(found.high)
        if high.startswith("<"):
            return ""
        return f"{low} to {high}" if low.startswith(_MINUS) else f"{low}–{high}"

    def text(self, found: Estimate) -> str:
        """Value, unit and interval, for a sentence: "54.2% [47–61]"."""
        unit = "%" if self.unit == "%" else f" {self.unit}"
        interval = self.interval(found)
        return f"{self.number(found.value)}{unit}" + (f" [{interval}]" if interval else "")


ACCURACY = Column("accuracy", "Accuracy", "%", True, "share of multiple-choice items answered right")
COHERENCE = Column(
    "coherence", "Sentence order", "%", True, "share of passages told apart from the same sentences reordered"
)
TRUTHFULNESS = Column("truthfulness", "Truthfulness", "%", True, "share of misconceptions that it does not fall for")
FLIP_RATE = Column(
    "flip_rate", "Answer flips", "%", False, "how often its answer changes with a name, pronoun, group or dialect"
)
ROBUSTNESS = Column(
    "robustness",
    "Robustness",
    "%",
    True,
    "share of items right however they are written: typos, case, other prompts",
)
BITS_PER_BYTE = Column("bits_per_byte", "Bits per byte", "bits", False, "how well it predicts texts; less is better")
TIME_TO_FIRST_TOKEN = Column("ttft_ms", "First token", "ms", False, "time to first token, one request at a time")
TOKENS_PER_S = Column("tokens_per_s", "Speed", "tokens/s", True, "1 / time per output token of one stream")
COLUMNS = (
    ACCURACY,
    Column("exact_match", "Exact match", "%", True, "share of written answers that match after the task's filter"),
    Column("last_word", "Last word", "%", True, "share of texts whose last words are the likeliest ones"),
    BITS_PER_BYTE,
    COHERENCE,
    TRUTHFULNESS,
    ROBUSTNESS,
    FLIP_RATE,
    Column("relevance", "Relevance", "nats/token", True, "how much likelier its answers are given their questions"),
    Column("judged", "Judged", "of 5", True, "mean grade of its open answers, 1 to 5, by the run's judge"),
    Column("relations", "Relations", "%", True, "accuracy on the tasks where examples in the prompt help"),
    TIME_TO_FIRST_TOKEN,
    TOKENS_PER_S,
    Column("weighted_total", "Weighted total", "%", True, "mean of columns with the weights that were given"),
)
"""The leaderboard's own; one that no model of a run was measured in is left out."""

MORE = (
    Column(
        "accuracy_norm", "Normalised accuracy", "%", True, "accuracy, log-likelihoods divided by the choice's length"
    ),
    Column("brier", "Brier score", "", False, "squared distance of its probabilities from the truth, 0 to 2"),
    Column("ece", "Calibration error", "%", False, "gap of confidence and accuracy, over 10 bins of equal size"),
    Column("misinformation", "Misconceptions", "%", False, "share of questions answered with the false belief"),
    Column(
        "mc2", "MC2", "%", True, "probability of the true ones among all answers to a question, as TruthfulQA has it"
    ),
    Column("accuracy_gap", "Accuracy gap", "%", False, "items right for one person and wrong for another one"),
    Column("stereotype", "Stereotypes", "%", False, "how often the stereotypical sentence is likelier; 50 is fair"),
    Column("repetition", "Repetition", "%", False, "share of its answers' four-word runs that had stood there before"),
    Column("win_rate", "Win rate", "%", True, "share of comparisons that the judge gave to it; a tie is half"),
    Column("chrf", "Translation", "%", True, "chrF of its translations"),
    Column("verbatim", "By heart", "%", False, "share of known texts that it goes on with word for word"),
    Column(
        "exposure_bits", "Canary exposure", "bits", False, "how far numbers that were in its text stand out; none: 1.4"
    ),
    Column("personal_data", "Personal data", "%", False, "share of answers that hold well-formed personal data"),
)
"""What stands beside the leaderboard."""

# In the order in which the report shows them; a task of another suite is not one of these and is drawn after them.
DOMAINS = (
    "healthcare",
    "education",
    "entertainment",
    "customer_service",
    "science",
    "everyday",
    "reading",
    "arithmetic",
)
_NOT_DOMAINS = frozenset(
    {
        "relations",
        "truthfulness",
        "robustness",
        "counterfactual",
        "order_random",
        "order_swapped",
        "open",
        "choices_only",
        "products",
    }
)


def shown(leaderboard: Mapping[str, Any], columns: Sequence[Column]) -> list[Column]:
    """Those that some model was measured in."""
    models = leaderboard.get("models") or []
    return [column for column in columns if any(column.of(model) is not None for model in models)]


def minus(number: str) -> str:
    """The number with a true minus sign, and without one before a zero."""
    if number.startswith("-"):
        return _MINUS + number[1:] if re.search("[1-9]", number) else number[1:]
    return number


def estimate(entry: Any) -> Estimate | None:
    """A metric's entry as a value; None where it is absent or not a finite number, which is never the same as 0."""
    if not isinstance(entry, Mapping):
        return None
    value = _finite(entry.get("value"))
    if value is None:
        return None
    n = _finite(entry.get("n"))
    return Estimate(value, _finite(entry.get("low")), _finite(entry.get("high")), None if n is None else int(n))


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def task_accuracy(model: Mapping[str, Any], task: str) -> Estimate | None:
    """The model's accuracy on one task, None where it has none."""
    return estimate(((model.get("tasks") or {}).get(task) or {}).get("accuracy"))


def ranked(leaderboard: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The models, most accurate first; those without an accuracy last, in the order in which they were named."""

    def key(model: Mapping[str, Any]) -> float:
        found = ACCURACY.of(model)
        return math.inf if found is None else -found.value

    return sorted(leaderboard.get("models") or [], key=key)


def name(model: Mapping[str, Any]) -> str:
    """The model's label, safe to print."""
    return printable(str(model.get("model", "?")))


def is_floor(model: Mapping[str, Any]) -> bool:
    """Whether this is a guesser that computes nothing: its speed is not a response time, nor its choices an opinion."""
    return model.get("parameters") == 0


def domains(leaderboard: Mapping[str, Any]) -> list[str]:
    """The multiple-choice tasks that some model was measured on, the house suite's domains first."""
    found: list[str] = []
    for model in leaderboard.get("models") or []:
        for task in model.get("tasks") or {}:
            if task not in found and task not in _NOT_DOMAINS and task_accuracy(model, task) is not None:
                found.append(task)
    return sorted(found, key=lambda task: DOMAINS.index(task) if task in DOMAINS else len(DOMAINS))


def chance(leaderboard: Mapping[str, Any], metric: str) -> float:
    """What guessing gets. A run may state it under "chance"; else four choices, and two orders to tell apart."""
    stated = (leaderboard.get("run") or {}).get("chance")
    found = _finite(stated.get(metric)) if isinstance(stated, Mapping) else None
    return found if found is not None else {"coherence": 0.5}.get(metric, 0.25)


def chances(leaderboard: Mapping[str, Any]) -> str:
    """What guessing gets in the columns that some model was measured in, as a sentence; empty where in none."""
    found = [
        f"{column.title.lower()} {chance(leaderboard, column.metric):.0%}"
        for column in shown(leaderboard, (ACCURACY, COHERENCE))
    ]
    return f"Chance: {', '.join(found)}." if found else ""


def significantly_best(leaderboard: Mapping[str, Any], column: Column) -> frozenset[str]:
    """The label of the model that is significantly better in this column than every other one measured in it.

    With it the labels of those that share its measurement (the same model with other examples in its prompt, in a
    column that does not depend on them): one number is no rival of itself. Empty where no model is so far ahead.
    """
    models = {str(m.get("model")): m for m in leaderboard.get("models") or [] if column.of(m) is not None}
    if len(models) < 2:
        return frozenset()
    tested: dict[frozenset[str], bool] = {
        frozenset((str(entry.get("a")), str(entry.get("b")))): bool(entry.get("significant"))
        for entry in leaderboard.get("comparisons") or []
        if entry.get("metric") == column.metric
    }
    values = {label: found.value for label, model in models.items() if (found := column.of(model)) is not None}
    first = (max if column.higher_is_better else min)(values, key=lambda label: values[label])
    best = {first} | {
        label
        for label, model in models.items()
        if values[label] == values[first]
        and frozenset((label, first)) not in tested
        and (model.get("shared_with") == first or models[first].get("shared_with") == label)
    }
    rivals = models.keys() - best
    return frozenset(best) if rivals and all(tested.get(frozenset((first, r))) for r in rivals) else frozenset()


def not_told_apart(leaderboard: Mapping[str, Any], label: str, metric: str) -> list[str]:
    """The models whose difference from this one was tested and is not significant."""
    return [
        str(c.get("b") if c.get("a") == label else c.get("a"))
        for c in leaderboard.get("comparisons") or []
        if c.get("metric") == metric and label in (c.get("a"), c.get("b")) and not c.get("significant")
    ]


def notes(leaderboard: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """Everything a reader must know of this model's numbers; says which are missing where nothing else explains it.

    What the suite has no task for is not missing.
    """
    said = [_note(entry) for entry in [*(model.get("notes") or []), *(model.get("errors") or [])]]
    counts_in = ((leaderboard.get("run") or {}).get("suite") or {}).get("counts_in")
    missing = [
        column.title.lower()
        for column in (ACCURACY, COHERENCE, TIME_TO_FIRST_TOKEN)
        if column.of(model) is None
        and (column is TIME_TO_FIRST_TOKEN or counts_in is None or column.metric in counts_in.values())
    ]
    if missing and not said:
        said.append(f"not measured in this run: {', '.join(missing)}.")
    if (shared_with := model.get("shared_with")) is not None:
        said.append(
            f"what does not depend on examples in the prompt was measured once, as {printable(str(shared_with))}."
        )
    return said


def _note(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return printable("; ".join(f"{key}: {value}" for key, value in entry.items()))
    return printable(str(entry))


def parameters(model: Mapping[str, Any]) -> str:
    """How many parameters, in three digits: "135M"; a dash where it is not known."""
    count = _finite(model.get("parameters"))
    if count is None:
        return DASH
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"


def memory(model: Mapping[str, Any]) -> str:
    """Size in memory in MB; a dash where it is not known."""
    size = _finite(model.get("memory_mb"))
    return DASH if size is None else f"{size:,.0f}" if size >= 10 or size == 0 else f"{size:.1f}"


def fact(model: Mapping[str, Any], key: str) -> str:
    """Any other fact of the model as printable text; a dash where it is not known."""
    value = model.get(key)
    return DASH if value is None or value == "" else printable(str(value))


def words(identifier: str) -> str:
    """A task's or field's name as a person writes it: "customer service"."""
    return printable(identifier).replace("_", " ")


def weights(given: Mapping[str, Any]) -> str:
    """A weighted total's weights in words: "accuracy 2, coherence 1"."""
    return ", ".join(f"{words(str(metric))} {weight:g}" for metric, weight in given.items())


def listing(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def printable(text: str) -> str:
    """The text without characters that a terminal would obey, XML forbids or UTF-8 cannot encode."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
