"""`rate`: models against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairground.cli.app import Json, app, out
from fairground.errors import DataError, RequestError
from fairground.hub.home import write_whole

if TYPE_CHECKING:
    from fairground.arena.columns import Battles
    from fairground.arena.facts import Fact
    from fairground.arena.ratings import Ratings


class BothBad(StrEnum):
    tie = "tie"
    outside = "outside"


@app.command(epilog="Example: fairground rate --record")
def rate(
    battles: Annotated[
        Path | None, typer.Argument(help="csv, jsonl or parquet with model_a, model_b, winner and perhaps a voter.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="The published record: 8,931 crowd votes of 2023.")] = False,
    style: Annotated[
        bool, typer.Option("--style", help="Control for length, headings, lists and bold of the answers.")
    ] = False,
    category: Annotated[
        str | None, typer.Option(help="Only battles of a category: code, maths, hard, creative-writing, ...")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Only battles in a language: en, German, ...")] = None,
    both_bad: Annotated[
        BothBad, typer.Option(help="A vote that both are bad is a tie, or the choice of neither (outside).")
    ] = BothBad.tie,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Intervals from 1,000 resamples of the voters instead of the sandwich.")
    ] = False,
    reweight: Annotated[bool, typer.Option("--reweight", help="Give each pair of models the same say.")] = False,
    cap: Annotated[int | None, typer.Option(help="At most so many battles of the same prompt.", min=1)] = None,
    robust: Annotated[
        bool, typer.Option("--robust", help="How many votes, turned or left out, put the next model above each.")
    ] = False,
    largest_group: Annotated[
        bool, typer.Option("--largest-group", help="Where models fall into groups that never met, rate the largest.")
    ] = False,
    seed: Annotated[int, typer.Option(help="For what is drawn by --bootstrap and --cap.", min=0)] = 0,
    plot: Annotated[Path | None, typer.Option(help="Write the intervals as a picture to this .svg file.")] = None,
    as_json: Json = False,
) -> None:
    """Rate models from battles: Bradley-Terry with 95% intervals, clustered by voter."""
    from fairground.arena import record as published
    from fairground.arena.columns import columns
    from fairground.arena.groups import largest_group as the_largest
    from fairground.arena.ratings import rated
    from fairground.arena.reading import read_columns
    from fairground.arena.robustness import with_robustness
    from fairground.arena.table import ratings_table

    if record == (battles is not None):
        raise RequestError("Give a file of battles, or --record for the published one; not both and not neither.")
    if battles is None:
        read, title = columns(published.votes()), "The record: 8,931 crowd votes on 59 models, 2023"
    else:
        wanted: dict[Fact, bool] = {
            "style": style,
            "prompt": cap is not None,
            "category": category is not None,
            "language": language is not None,
        }
        read, title = read_columns(battles, [fact for fact, asked in wanted.items() if asked]), str(battles)
    if cap is not None and (read.prompt < 0).all():
        raise DataError(
            "The battles do not say what was asked, so battles of the same prompt cannot be capped; leave out --cap, "
            "or give a column prompt or conversation_a."
        )
    kept = _of_category(read, category, language)
    if largest_group:
        kept = the_largest(kept)
    found = rated(
        kept,
        both_bad=both_bad.value,
        style=style,
        reweight=reweight,
        intervals="bootstrap" if bootstrap else "sandwich",
        prompt_cap=cap,
        seed=seed,
    )
    if robust:
        found = replace(found, rows=with_robustness(found))
    rows: Sequence[Any] = found.rows
    if record and not any(row.outside for row in found.rows):
        rows = published.of_record(found.rows)
    notes = [*_notes(found, len(read), both_bad, robust), *(_record_notes() if record else ())]
    if plot is not None:
        _draw(found, plot, record, title)
    if as_json:
        effects = {effect.style: asdict(effect) for effect in found.effects}
        more = {"style_effects": effects} if style else {}
        print(json.dumps([asdict(row) | more for row in rows], indent=1))
    else:
        out.print(ratings_table(rows, title=title, notes=notes))


def _of_category(battles: Battles, category: str | None, language: str | None) -> Battles:
    """The battles with these tags. Raises DataError where there is none."""
    from fairground.arena.facts import language_code

    kept = battles
    for option, value, tag in (
        ("category", category, (category or "").strip().lower()),
        ("language", language, f"language:{language_code(language or '')}"),
    ):
        if value is None:
            continue
        if tag not in kept.tags or not kept.tags[tag].any():
            here = option == "language"
            others = [name.removeprefix("language:") for name in battles.tags if name.startswith("language:") == here]
            said = f"there are {', '.join(others[:12])}" if others else f"the battles do not say their {option}"
            raise DataError(f"No battle has the {option} {value!r}; {said}; leave out --{option} or choose another.")
        kept = kept.only(kept.tags[tag])
    return kept


def _notes(found: Ratings, read: int, both_bad: BothBad, robust: bool) -> list[str]:
    """What the numbers rest on, a sentence or two each."""
    from fairground.arena.columns import BOTH_BAD
    from fairground.arena.likelihood import strong_parts

    counted, notes = found.battles, []
    if len(counted) < read:
        notes.append(f"{len(counted):,} of {read:,} battles were counted, as asked for.")
    if bad := int((counted.outcome == BOTH_BAD).sum()):
        said = f"{bad:,} of {len(counted):,} votes said that both are bad"
        option = next((row for row in found.rows if row.outside), None)
        if option is None:
            notes.append(f"{said}; they count as ties here (--both-bad outside measures them against neither).")
        else:
            notes.append(
                f"{said}, that is, chose neither: an option with a rating of its own, {option.rating:.0f} "
                f"({option.low:.0f} to {option.high:.0f}). A model that stands there is sent away with the other as "
                "often as it is preferred; above it, less often."
            )
    elif both_bad is BothBad.outside:
        notes.append("No vote said that both are bad, so there is no option outside to rate.")
    if found.effects:
        worth = [
            f"{effect.style} {effect.points:+.1f} ({effect.low:+.1f} to {effect.high:+.1f})" for effect in found.effects
        ]
        notes.append(f"What one standard deviation more than the other answer is worth, in points: {'; '.join(worth)}.")
    if found.fit.penalised:
        part = strong_parts(found.tally.choices.merged())
        settled = part == max(set(part.tolist()), key=part.tolist().count)
        apart = [name for name, inside in zip(counted.models, settled, strict=False) if not inside]
        notes.append(
            f"Some models never gave, or never took, a point from the others ({', '.join(apart[:5])}"
            f"{', ...' if len(apart) > 5 else ''}), so the plain estimate is infinite; all ratings are held by Firth's "
            "penalty."
        )
    if robust:
        notes.append(
            "To flip, to drop: so many votes, had they gone the other way or not been cast, put the next above it."
        )
    return notes


def _draw(found: Ratings, path: Path, record: bool, title: str) -> None:
    from fairground.arena import record as published
    from fairground.arena.plot import interval_plot

    if path.suffix.lower() != ".svg":
        raise DataError(f"{path.name} does not end in .svg, which is what the picture is written as; name it so.")
    models, votes = len(found.battles.models), len(found.battles)
    said = f"{votes:,} votes on {models} models. Dots are ratings, lines 95% intervals; 400 points are odds of 10 to 1."
    if found.effects:
        said += " Controlled for the length and markup of the answers."
    svg = interval_plot(
        found.rows,
        title="How people rate language models" if not record else "How people rated language models in 2023",
        subtitle=said,
        source=published.ATTRIBUTION if record else f"Votes: {Path(title).name}.",
    )
    try:
        write_whole(path, svg.encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); name another place.") from error


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
