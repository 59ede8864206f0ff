"""The leaderboard in the terminal: two lines a model, the number and its 95% interval beneath."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fairground.evaluation import columns as c
from fairground.evaluation.report_judges import judge_captions

# What a narrow terminal gives up, first to last; leaderboard.json and report.html have them all.
_GIVEN_UP = (
    "origin",
    "relations",
    "robustness",
    "exact_match",
    "relevance",
    "memory",
    "last_word",
    "flip_rate",
    "truthfulness",
    "judged",
)
_NAMES = {column.metric: column.title.lower() for column in c.COLUMNS} | {"origin": "what each precision came from"}
_HEADINGS = {
    "accuracy": ("Accu-", "racy %"),
    "exact_match": ("Exact", "match %"),
    "last_word": ("Last", "word %"),
    "bits_per_byte": ("Bits", "per byte"),
    "coherence": ("Sentence", "order %"),
    "truthfulness": ("Truth", "%"),
    "robustness": ("Robust", "%"),
    "flip_rate": ("Answer", "flips %"),
    "relevance": ("Relevance", "nats/token"),
    "judged": ("Judged", "of 5"),
    "relations": ("Rela-", "tions %"),
    "ttft_ms": ("First", "token ms"),
    "tokens_per_s": ("Tokens", "per s"),
    "weighted_total": ("Weighted", "total %"),
    "memory": ("Memory", "MB"),
}


def leaderboard_table(leaderboard: Mapping[str, Any], sentences: Sequence[str] = ()) -> RenderableType:
    """The leaderboard for people at a terminal: most accurate first, every number with its interval, then what the
    numbers rest on, then `sentences` (which differences are significant).

    Fits any width from 80 columns; a narrower terminal sees fewer columns and is told which. A number is bold where
    its model is significantly better than every other one in that column, and nowhere else. What was not measured is
    a dash, explained in the notes.
    """
    return _Leaderboard(leaderboard, tuple(sentences))


@dataclass(frozen=True, slots=True)
class _Leaderboard:
    leaderboard: Mapping[str, Any]
    sentences: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out: list[str] = []
        measured = {column.metric for column in c.shown(self.leaderboard, c.COLUMNS)} | {"origin", "memory"}
        table = self._table(left_out)
        for metric in _GIVEN_UP:
            if Measurement.get(console, options.update(width=10_000), table).maximum <= options.max_width:
                break
            if metric not in measured:
                continue
            left_out.append(metric)
            table = self._table(left_out)
        yield table
        yield Text()
        yield from self._below(left_out)

    def _table(self, left_out: Sequence[str]) -> Table:
        suite = (self.leaderboard.get("run") or {}).get("suite") or {}
        title = " ".join(c.printable(str(part)) for part in (suite.get("name"), suite.get("version")) if part)
        table = Table(
            box=box.SIMPLE_HEAD,
            title=Text(f"Leaderboard · suite {title}" if title else "Leaderboard"),
            title_style="bold",
            title_justify="left",
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 1),
            collapse_padding=True,
        )
        table.add_column("Model", overflow="fold", min_width=12)
        shown = [column for column in c.shown(self.leaderboard, c.COLUMNS) if column.metric not in left_out]
        for column in shown:
            table.add_column("\n".join(_HEADINGS[column.metric]), justify="right", no_wrap=True)
        if "memory" not in left_out:
            table.add_column("\n".join(_HEADINGS["memory"]), justify="right", no_wrap=True)
        best = {column.metric: c.significantly_best(self.leaderboard, column) for column in shown}
        for model in c.ranked(self.leaderboard):
            cells = [Text.assemble(c.name(model), "\n", (_kind(model, "origin" not in left_out), "dim"))]
            for column in shown:
                cells.append(_cell(column, column.of(model), model.get("model") in best[column.metric]))
            if "memory" not in left_out:
                cells.append(Text(c.memory(model)))
            table.add_row(*cells)
        return table

    def _below(self, left_out: Sequence[str]) -> Iterator[Text]:
        yield Text(" ".join(_caption(self.leaderboard)), style="dim")
        if left_out:
            names = c.listing([_NAMES.get(metric, metric) for metric in left_out])
            yield Text(f"Too narrow for {names}: see report.html or leaderboard.json.", style="dim")
        models = c.ranked(self.leaderboard)
        remarks = [(c.name(model), note) for model in models for note in c.notes(self.leaderboard, model)]
        if remarks:
            yield Text()
        for label, note in remarks:
            yield Text.assemble((f"{label}: ", "bold"), note)
        if self.sentences:
            yield Text()
        for sentence in self.sentences:
            yield Text(c.printable(sentence))


def _kind(model: Mapping[str, Any], origin: bool) -> str:
    if c.is_floor(model):
        return "no parameters"
    precision = c.fact(model, "precision").replace("bfloat16", "bf16").replace("float32", "fp32")
    if not origin:
        precision = precision.split(" from ")[0]
    return " ".join(fact for fact in (c.parameters(model), precision) if fact != c.DASH)


def _cell(column: c.Column, found: c.Estimate | None, best: bool) -> Text:
    if found is None:
        return Text(c.DASH)
    return Text.assemble(
        (column.number(found.value), "bold green" if best else ""),
        "\n",
        (column.interval(found).replace(" to ", "…"), "dim"),
    )


def _caption(leaderboard: Mapping[str, Any]) -> Iterator[str]:
    run = leaderboard.get("run") or {}
    yield "Beneath each number: its 95% interval."
    if chances := c.chances(leaderboard):
        yield chances
    if probe := run.get("probe"):
        yield probe_sentence(probe)
    if scorer := run.get("scorer"):
        model, precision = c.fact(scorer, "model"), c.fact(scorer, "precision")
        yield f"Relevance under one fixed scorer, {model}" + (f" ({precision})." if precision != c.DASH else ".")
    yield from judge_captions(leaderboard)
    if weights := run.get("weights"):
        yield f"Weighted total, with the weights that were given: {c.weights(weights)}."
    if limit := run.get("limit"):
        yield f"Only the first {c.printable(str(limit))} items of each task were asked."


def probe_sentence(probe: Mapping[str, Any]) -> str:
    """How the response time was measured, in one sentence."""

    def count(key: str, one: str) -> str:
        value = probe.get(key)
        return f"an unstated number of {one}s" if value is None else f"{value} {one}{'' if value == 1 else 's'}"

    return c.printable(
        f"Response time: {count('prompt_tokens', 'prompt token')}, {count('output_tokens', 'output token')}, "
        f"{count('warmup', 'warm-up run')}, then {count('repeats', 'repeat')} "
        f"at concurrency {probe.get('concurrency', 1)}."
    )
