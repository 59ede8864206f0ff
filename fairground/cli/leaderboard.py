"""`leaderboard`: the arena's current ratings, from its log."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from fairground.cli.app import Json, app, out
from fairground.cli.arena import DatabaseOption, arena_database
from fairground.errors import RequestError


@app.command(epilog="Example: fairground leaderboard --category code --style")
def leaderboard(
    category: Annotated[str | None, typer.Option(help="One kind of prompts: code, maths, hard, short, …")] = None,
    language: Annotated[str | None, typer.Option(help="Prompts in one language, as en or de.")] = None,
    style: Annotated[bool, typer.Option("--style", help="Take out what length and Markdown are worth.")] = False,
    database: DatabaseOption = None,
    as_json: Json = False,
) -> None:
    """Show the arena's ratings, computed from the log of votes; --json gives the same bytes as the site's download."""
    from fairground.arena.categories import LANGUAGES, TITLES, UNKNOWN
    from fairground.arena.table import ratings_table
    from fairground.loop.ledger import as_entry
    from fairground.loop.standings import Standings, View, canonical_bytes
    from fairground.store.log import read_log

    if category is not None and category not in TITLES:
        raise RequestError(f"There is no category {category!r}; choose one of {', '.join(TITLES)}.")
    if language is not None and language not in (*LANGUAGES, UNKNOWN):
        raise RequestError(
            f"{language!r} is no language that prompts are sorted by; write a code as en, de or {UNKNOWN}."
        )
    with arena_database(database) as opened:
        standings = Standings(map(as_entry, read_log(opened)))
    board = standings.leaderboard(View(category=category, language=language, style=style))
    if as_json:
        sys.stdout.buffer.write(canonical_bytes(board))
        return
    if board["unrated"]:
        raise RequestError(board["unrated"])
    if not board["models"]:
        out.print("No votes on such battles yet; 'fairground up' opens the site where people vote.", highlight=False)
        return
    rows = [
        SimpleNamespace(
            **{name: row[name] for name in ("model", "rating", "low", "high", "votes", "rank_low", "rank_high")},
            maker=row["organisation"],
            response_ms=row["seconds"] and 1000 * row["seconds"],
        )
        for row in board["models"]
    ]
    kind = f", {TITLES[category].lower()}" if category else ""
    where = f", in {LANGUAGES.get(language, 'an undetermined language')}" if language else ""
    out.print(ratings_table(rows, title=f"The arena: blind battles{kind}{where}", notes=_notes(board)))


def _notes(board: dict[str, Any]) -> list[str]:
    votes = f"{board['votes']:,} votes by {board['voters']:,} {'person' if board['voters'] == 1 else 'people'}"
    notes = [f"{votes}, up to entry {board['log']['number']:,} of the log."]
    if few := [row["model"] for row in board["models"] if row["preliminary"]]:
        all_of_them = len(few) == len(board["models"])
        notes.append(f"Preliminary, with fewer than 300 votes: {'all of them' if all_of_them else ', '.join(few)}.")
    if board["style"]:
        worth = ", ".join(f"{effect['style']} {effect['points']:+.0f}" for effect in board["style"])
        notes.append(f"Controlled for style. Worth of one standard deviation more, in points: {worth}.")
    if board["quarantined_votes"]:
        notes.append(f"{board['quarantined_votes']:,} votes of voters in quarantine are left out.")
    if board["apart"]:
        notes.append(f"Not ranked, since they have not met these models: {', '.join(board['apart'])}.")
    return notes
