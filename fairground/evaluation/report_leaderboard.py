"""The report's tables of models: the leaderboard, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairground.evaluation import columns as c
from fairground.evaluation.report_markup import estimated, label, table, text

_IN_FAIRNESS = frozenset({"accuracy_gap", "stereotype"})  # they stand in the fairness table


def leaderboard_table(leaderboard: Mapping[str, Any]) -> str:
    """The leaderboard, its legend and the notes on what is missing."""
    models = c.ranked(leaderboard)
    shown = c.shown(leaderboard, c.COLUMNS)
    best = {column.metric: c.significantly_best(leaderboard, column) for column in shown}
    rows = []
    for i, model in enumerate(models):
        cells = [f'<th scope="row">{label(c.name(model))}<small>{text(_kind(model))}</small></th>']
        cells.extend(_number(column, model, i, best[column.metric]) for column in shown)
        rows.append(f"<tr>{''.join(cells)}<td>{c.memory(model)}</td></tr>")
    marked = "No number is significantly better than every other in its column, so none is marked."
    if any(best.values()):
        marked = "Bold and green: significantly better than every other number in its column."
    weights = (leaderboard.get("run") or {}).get("weights")
    total = f"Weighted total, with the weights that were given: {c.weights(weights)}. " if weights else ""
    heads = ["Model", *_heads(shown), "Memory <small>MB</small>"]
    return (
        f"{table(heads, rows, by='leaderboard-title', kind='leaderboard')}"
        f'<p class="about">Beneath each number: its 95% interval. {marked} '
        f"{c.chances(leaderboard)} {text(total)}"
        f"{c.DASH}: not measured, see the notes.</p><details><summary>What the columns mean</summary>"
        f"{_meanings(shown)}</details>{_notes(leaderboard, models)}"
    )


def _kind(model: Mapping[str, Any]) -> str:
    """What the model is, beneath its name: family, size, precision, shots, licence, as far as they are known."""
    if c.is_floor(model):
        return "a guesser"
    facts = [c.fact(model, "family"), c.parameters(model), c.fact(model, "precision")]
    if model.get("shots"):
        facts.append(f"{c.fact(model, 'shots')} shots")
    return " · ".join(fact for fact in [*facts, c.fact(model, "licence")] if fact != c.DASH)


def _heads(columns: Sequence[c.Column]) -> list[str]:
    return [f"{column.title} <small>{column.unit}</small>" for column in columns]


def beside(leaderboard: Mapping[str, Any]) -> str:
    """What stands beside the leaderboard: truth, translation, privacy and the like, and what each means."""
    shown = [column for column in c.shown(leaderboard, c.MORE) if column.metric not in _IN_FAIRNESS]
    if not shown:
        return "<p>Nothing else was measured in this run.</p>"
    rows = []
    for i, model in enumerate(c.ranked(leaderboard)):
        cells = "".join(_number(column, model, i, frozenset()) for column in shown)
        rows.append(f'<tr><th scope="row">{label(c.name(model))}</th>{cells}</tr>')
    return f"{table(['Model', *_heads(shown)], rows, by='beside-title', kind='beside')}{_meanings(shown)}"


def _meanings(columns: Sequence[c.Column]) -> str:
    meanings = "".join(
        f"<div><dt>{column.title}</dt><dd>{text(column.meaning)}"
        f"{'' if column.higher_is_better or 'less is better' in column.meaning else '; less is better'}</dd></div>"
        for column in columns
    )
    return f"<dl>{meanings}</dl>"


def _notes(leaderboard: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    remarks = ""
    for i, model in enumerate(models):
        said = c.notes(leaderboard, model)
        if said:
            remarks += f'<li id="note-{i}"><b>{text(c.name(model))}</b>: {"<br>".join(map(text, said))}</li>'
    return f'<h3>Notes</h3><ul class="notes">{remarks}</ul>' if remarks else ""


def _number(column: c.Column, model: Mapping[str, Any], i: int, best: frozenset[str]) -> str:
    found = column.of(model)
    if found is None:
        return f'<td><a href="#note-{i}" aria-label="{column.title} not measured: see the note">{c.DASH}</a></td>'
    mark = ' class="best"' if model.get("model") in best else ""
    return f"<td{mark}>{estimated(column, found)}</td>"
