"""`rank` and `rate`: models against a suite, and against each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairground.cli.app import AllowPickle, Deterministic, Device, Json, Opening, Threads, app, bar, err, out
from fairground.cli.runs import DatabaseOption, begun, finished_run
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.hub.reference import Reference

MOST_SENTENCES = 12  # significant differences that a terminal shows one by one


@app.command(epilog="Example: fairground rank smollm2 smollm2,shots=5 smollm2#int4 uniform")
def rank(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Models to rank; NAME[#PRECISION][,shots=K].")
    ],
    suite: Annotated[str, typer.Option(help="A suite by name, or a folder with a suite.toml.")] = "house",
    limit: Annotated[int | None, typer.Option(help="Only the first N items of each task.", min=1)] = None,
    shots: Annotated[
        int, typer.Option(help="Solved examples in the prompt, where a model's name says nothing.", min=0)
    ] = 0,
    folder: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("rank"),
    scorer: Annotated[
        str | None,
        typer.Option(help="The model under which relevance is computed (default: smollm2 where it is here)."),
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks of the suite, with commas between.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="An earlier run (id or folder); exit 1 if something fell.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="COLUMN=W,...", help="Adds a total with these weights, as accuracy=2,coherence=1."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever an interrupted run has kept.")] = False,
    database: DatabaseOption = None,
    threads: Threads = None,
    device: Device = "cpu",
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
    as_json: Json = False,
) -> None:
    """Measure models on a suite and print the leaderboard, with intervals and paired tests.

    Writes leaderboard.json, report.html, samples.jsonl, scores.jsonl and times.jsonl. A run that was interrupted goes
    on where it stopped when the same command is given again.
    """
    from fairground.evaluation.against import compare_runs
    from fairground.evaluation.environment import cores
    from fairground.evaluation.files import leaderboard_text, scores_text, write_run
    from fairground.evaluation.report import html_report
    from fairground.evaluation.runner import Entrant, run_id
    from fairground.evaluation.runner import rank as measure
    from fairground.evaluation.sentences import sentences
    from fairground.evaluation.suite import cut, load_suite
    from fairground.evaluation.table import leaderboard_table
    from fairground.evaluation.weighted import check, read_weights
    from fairground.hub.reference import parse
    from fairground.store import RunJournal, begin_run, finish_run

    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, so no results can go into it; give --out another folder.")
    settings = Opening(threads, device, deterministic, allow_pickle)
    loaded = load_suite(suite)
    if tasks:
        loaded = cut(loaded, tasks.split(","))
    weighing = read_weights(weights) if weights is not None else {}
    check(weighing, loaded)
    references = [parse(name) for name in models]
    scoring = _scorer(scorer, references)

    def entrant(reference: Reference) -> Entrant:
        given = shots if reference.shots is None else reference.shots
        return Entrant(reference.name, lambda: settings.open(reference), given, identity=settings.identity(reference))

    for reference in (*references, *([scoring] if scoring else [])):
        settings.fetch(reference)
    id_ = ""
    with begun(database, lambda: id_) as opened:
        earlier = finished_run(opened, against) if against else None
        entrants = [entrant(reference) for reference in references]
        judge = entrant(scoring) if scoring else None
        id_ = run_id(loaded, entrants, limit=limit, scorer=judge)
        if kept := begin_run(opened, id_, loaded.name, [f"{e.name},shots={e.shots}" for e in entrants], fresh=fresh):
            err.print(f"Going on with run {id_}: {kept:,} outcomes are kept (--fresh begins anew).", highlight=False)
        with bar("{task.description}") as shown:
            task = shown.add_task("starting")
            run = measure(
                entrants,
                loaded,
                limit=limit,
                scorer=judge,
                progress=lambda p: shown.update(
                    task, description=f"{p.model}: {p.task.replace('_', ' ')}", completed=p.done, total=p.total
                ),
                environment={"command": ["fairground", *sys.argv[1:]], "threads": threads or cores()},
                journal=RunJournal(opened, id_),
                weights=weighing,
            )
        findings = sentences(run.leaderboard)
        write_run(run, folder, {"report.html": html_report(run.leaderboard, run.samples, findings)})
        finish_run(opened, id_, leaderboard_text(run), scores_text(run))
    changes = compare_runs(earlier, (run.leaderboard, run.scores)) if earlier else []
    fallen = [entry for entry in changes if entry["fell"]]
    if as_json:
        print(leaderboard_text(run), end="")
        _gate(fallen, against)
        return
    out.print(leaderboard_table(run.leaderboard, sentences(run.leaderboard, most=MOST_SENTENCES)))
    first = next((r.name for r in references if r.kind != "uniform"), references[0].name)
    out.print(f"\nThe report, with every answer, is {folder / 'report.html'}.", soft_wrap=True, highlight=False)
    out.print("Try next:", highlight=False)
    out.print(f"  fairground chat {first}", highlight=False, soft_wrap=True)
    precisions = {model["model"]: model["precision"] for model in run.leaderboard["models"]}
    if precisions[first] in ("float32", "bfloat16"):
        out.print(f"  fairground rank {first} {first}#int8 --limit 8", highlight=False, soft_wrap=True)
    _gate(fallen, against)


def _gate(fallen: Sequence[dict[str, Any]], against: str | None) -> None:
    """Exits 1, naming them, where measures are significantly worse than in the run that this one is held against."""
    if against is None:
        return
    from fairground.evaluation.against import change

    for entry in fallen:
        err.print(f"Worse than in {against}: {change(entry)}.", soft_wrap=True, highlight=False)
    if fallen:
        raise typer.Exit(1)
    err.print(f"Nothing is significantly worse than in {against}.", soft_wrap=True, highlight=False)


def _scorer(named: str | None, references: Sequence[Reference]) -> Reference | None:
    """Who scores everybody's answers: the named model, else smollm2 if it is here, else the first local one."""
    from fairground.hub.installed import locate
    from fairground.hub.reference import parse

    if named:
        return parse(named)
    local = [r for r in references if r.kind in ("catalogue", "path")]
    if any(r.target == "smollm2" for r in local) or locate("smollm2"):
        return parse("smollm2")
    return local[0] if local else None


@app.command(epilog="Example: fairground rate --record")
def rate(
    battles: Annotated[
        Path | None, typer.Argument(help="csv, jsonl or parquet with model_a, model_b, winner and perhaps a voter.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="The published record: 8,931 crowd votes of 2023.")] = False,
    as_json: Json = False,
) -> None:
    """Rate models from battles: Bradley-Terry with 95% intervals, clustered by voter."""
    from dataclasses import asdict

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
