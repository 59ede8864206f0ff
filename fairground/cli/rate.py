"""`rate`: models against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fairground.cli.app import Json, app, out
from fairground.errors import RequestError


@app.command(epilog="Example: fairground rate --record")
def rate(
    battles: Annotated[
        Path | None, typer.Argument(help="csv, jsonl or parquet with model_a, model_b, winner and perhaps a voter.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="The published record: 8,931 crowd votes of 2023.")] = False,
    as_json: Json = False,
) -> None:
    """Rate models from battles: Bradley-Terry with 95% intervals, clustered by voter."""
    from fairground.arena import record as published
    from fairground.arena.battles import read_battles
    from fairground.arena.ratings import rate as rate_battles
    from fairground.arena.table import ratings_table

    if record == (battles is not None):
        raise RequestError("Give a file of battles, or --record for the published one; not both and not neither.")
    if battles is None:
        rows: Sequence[Any] = published.record_ratings()
        title, notes = "The record: 8,931 crowd votes on 59 models, 2023", _record_notes()
    else:
        rows, title, notes = rate_battles(read_battles(battles)), str(battles), _both_bad_notes(battles)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        out.print(ratings_table(rows, title=title, notes=notes))


def _record_notes() -> list[str]:
    from fairground.arena import record as published

    scores = published.scores()
    best_open = next(row for row in scores if row.open)
    above = [row.model for row in scores if row.mean > best_open.mean]
    return [
        f"GPT-4's scores of {len(scores)} models on 300 questions: {scores[0].model} {scores[0].mean:.1f} of 10; the "
        f"best open one, {best_open.model}, {best_open.mean:.1f} ({best_open.low:.1f} to {best_open.high:.1f}), "
        f"below {', '.join(above)}.",
        published.ATTRIBUTION,
    ]


def _both_bad_notes(path: Path) -> list[str]:
    from fairground.arena.battles import read_battles

    votes = read_battles(path)
    bad = sum(vote.winner == "both_bad" for vote in votes)
    return [f"{bad} of {len(votes)} votes said that both are bad; they count as ties here."] if bad else []
