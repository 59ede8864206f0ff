"""The leaderboard's columns: what each shows of a model, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from fairground.arena.table import between, span
from fairground.evaluation.columns import DASH, parameters
from fairground.loop.measured import Measured

Row = Mapping[str, Any]  # a model of a leaderboard, with its measures under "measured"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `value`: what it is sorted by and what the csv file has; None where it is not known, which stands last.

    `falling`: whether its first sorting is from the largest down. `says`: what it is, for whoever points at it.
    """

    key: str
    title: str
    says: str
    value: Callable[[Row], float | str | None]
    cell: Callable[[Row], Markup]
    falling: bool = True
    number: bool = True


def points(value: float) -> str:
    return f"{value:,.0f}".replace("-", "−")


def interval(row: Row) -> str:
    return between(points(row["low"]), points(row["high"]))


def seconds(value: float | None) -> str:
    """A duration for people."""
    if value is None:
        return DASH
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def model_link(name: str) -> Markup:
    return Markup('<a href="/models/{}">{}</a>').format(quote(name, safe=""), name)


def _rank(row: Row) -> Markup:
    return Markup("{}").format(span(row["rank_low"], row["rank_high"]))


def _model(row: Row) -> Markup:
    badge = Markup(' <span class="tag">preliminary</span>') if row["preliminary"] else ""
    gone = Markup(' <span class="tag">not offered now</span>') if row["offered"] is False else ""
    return Markup("{}{}{}").format(model_link(row["model"]), badge, gone)


def _rating(row: Row) -> Markup:
    return Markup('<b>{}</b><small class="interval">{}</small>').format(points(row["rating"]), interval(row))


def _share(name: str) -> Callable[[Row], Markup]:
    return lambda row: Markup("{:.0f}%").format(100 * row[name])


def _bar(row: Row) -> Markup:
    share = row["average_win_rate"]
    return Markup(
        '{:.0f}%<svg class="bar" viewBox="0 0 100 5" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="5"/><rect class="fill" width="{:.0f}" height="5"/></svg>'
    ).format(100 * share, 100 * share)


def _flip(row: Row) -> Markup:
    return Markup("{}").format(DASH if row.get("votes_to_flip") is None else f"{row['votes_to_flip']:,}")


def _time(row: Row) -> Markup:
    first = row["first_token_s"]
    small = Markup('<small class="interval">first token {}</small>').format(seconds(first)) if first is not None else ""
    return Markup("{}{}").format(seconds(row["seconds"]), small)


def _measure(name: str) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        found: Measured | None = row["measured"].get(name)
        return None if found is None else found.value

    return value


def _percent(name: str) -> Callable[[Row], Markup]:
    def cell(row: Row) -> Markup:
        found: Measured | None = row["measured"].get(name)
        if found is None:
            return Markup(DASH)
        between = (
            f"{100 * found.low:.0f}–{100 * found.high:.0f}" if found.low is not None and found.high is not None else ""
        )
        return Markup('{:.1f}%<small class="interval">{}</small>').format(100 * found.value, between)

    return cell


def _energy(row: Row) -> Markup:
    found: Measured | None = row["measured"].get("energy_j_per_1k_tokens")
    if found is None:
        return Markup(DASH)
    return Markup("{}{}").format("~" if found.estimate else "", f"{found.value:,.3g}")


def _text(name: str) -> Callable[[Row], Markup]:
    return lambda row: Markup("{}").format(row.get(name) or DASH)


COLUMNS = (
    Column("rank", "Rank", "1 + the models surely better, to all but those surely worse",
           lambda row: row["rank_low"] * 10_000 + row["rank_high"], _rank, falling=False),
    Column("model", "Model", "as it is named here; preliminary: fewer than 300 votes",
           lambda row: row["model"], _model, falling=False, number=False),
    Column("rating", "Rating", "Bradley-Terry, 400 points are odds of 10 to 1; with its 95% interval",
           lambda row: row["rating"], _rating),
    Column("votes", "Votes", "battles that were voted on", lambda row: row["votes"],
           lambda row: Markup("{:,}").format(row["votes"])),
    Column("wins", "Average win rate", "the mean chance to beat each other model, by the ratings",
           lambda row: row["average_win_rate"], _bar),
    Column("bad", "Both bad", "the share of its battles in which neither answer was any good",
           lambda row: row["both_bad_share"], _share("both_bad_share"), falling=False),
    Column("flip", "Votes to flip", "so many votes, had they gone the other way, would put the next model above it",
           lambda row: row.get("votes_to_flip"), _flip),
    Column("time", "Response time", "median seconds to the whole answer, and to its first token, in battles here",
           lambda row: row["seconds"], _time, falling=False),
    Column("energy", "Energy J/1k tokens", "joules per thousand tokens in the newest run of rank; ~ is an estimate",
           _measure("energy_j_per_1k_tokens"), _energy, falling=False),
    Column("accuracy", "Accuracy", "in the newest run of rank, with its 95% interval",
           _measure("accuracy"), _percent("accuracy")),
    Column("order", "Sentence order", "coherence as a reader: passages told from their sentences in another order; "
           "50% is chance", _measure("coherence"), _percent("coherence")),
    Column("parameters", "Parameters", "how many numbers the model is made of",
           lambda row: row["parameters"], lambda row: Markup("{}").format(parameters(row)), falling=False),
    Column("licence", "Licence", "of the weights", lambda row: row["licence"], _text("licence"), falling=False,
           number=False),
    Column("organisation", "Organisation", "who made it", lambda row: row["organisation"], _text("organisation"),
           falling=False, number=False),
)  # fmt: skip
BY_KEY = {column.key: column for column in COLUMNS}


def order_of(column: Column, rows: list[Row], falling: bool) -> list[int]:
    """The places of the rows, sorted by a column; equal ones as they stood, unknown ones last."""
    values = [column.value(row) for row in rows]
    known = [i for i, value in enumerate(values) if value is not None]

    def key(i: int) -> Any:
        value = values[i]
        return value.casefold() if isinstance(value, str) else value

    return sorted(known, key=key, reverse=falling) + [i for i, value in enumerate(values) if value is None]


def row_markup(row: Row) -> Markup:
    """The row's HTML."""
    cells = []
    for column in COLUMNS:
        if column.key == "model":
            cells.append(Markup('<th scope="row">{}</th>').format(column.cell(row)))
        else:
            kind = Markup(' class="number"') if column.number else ""
            cells.append(Markup("<td{}>{}</td>").format(kind, column.cell(row)))
    return Markup("<tr>{}</tr>\n").format(Markup("").join(cells))
