"""`rank`: models against a suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from fairground.cli.app import AllowPickle, Deterministic, Device, Json, Opening, Threads, app, bar, err, out
from fairground.cli.judge import HowJudged, HowSaid, Judge, JudgeItself, JudgeVotes, judging, known_as
from fairground.cli.runs import DatabaseOption, begun, finished_run
from fairground.cli.spread import On, cluster
from fairground.cli.suite_options import numbers_of_shots, selection, suite_named, timed
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.evaluation.prices import Prices
    from fairground.evaluation.progress import Progress
    from fairground.hub.reference import Reference

MOST_SENTENCES = 12  # on significant differences, in a terminal and on the page


@app.command(epilog="Example: fairground rank smollm2 smollm2#int4 uniform --shots 0,1,5")
def rank(
    context: typer.Context,
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Models to rank; NAME[#PRECISION][,shots=K].")
    ],
    suite: Annotated[
        str, typer.Option(help="A suite by name, a folder with a suite.toml, or lm-eval:TASK,TASK of the harness.")
    ] = "house",
    include_path: Annotated[
        Path | None, typer.Option(help="A folder of the harness's YAML tasks, for lm-eval: suites.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N items of each task.", min=1)] = None,
    shots: Annotated[
        str,
        typer.Option(
            metavar="K[,K...]",
            help="Solved examples in the prompt, where a model's name says nothing; 0,1,5 gives the curve.",
        ),
    ] = "0",
    shots_by: Annotated[
        str | None,
        typer.Option(help="How they are drawn: random, balanced, nearest or first (default: as the suite says)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of random and balanced draws (default: 0).")] = None,
    folder: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("rank"),
    scorer: Annotated[
        str | None,
        typer.Option(help="The model under which relevance is computed (default: smollm2 where it is here)."),
    ] = None,
    judge: Judge = None,
    how_judged: HowJudged = "both",
    verdicts: HowSaid = "auto",
    judge_itself: JudgeItself = False,
    judge_votes: JudgeVotes = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks of the suite, with commas between.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="An earlier run (id or folder); exit 1 if something fell.")
    ] = None,
    times: Annotated[
        bool, typer.Option("--times/--no-times", help="Measure response times, which takes half a minute, or do not.")
    ] = True,
    goodput: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="What a good request keeps to, in ms: ttft=500,tpot=50 (also e2el)."),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prices of models (default: prices.toml in $FAIRGROUND_HOME, if there)."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="COLUMN=W,...", help="Adds a total with these weights, as accuracy=2,coherence=1."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever an interrupted run has kept.")] = False,
    on: On = None,
    database: DatabaseOption = None,
    threads: Threads = None,
    device: Device = "cpu",
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
    as_json: Json = False,
) -> None:
    """Measure models on a suite and print the leaderboard, with intervals and paired tests.

    Writes leaderboard.json, report.html, samples.jsonl, scores.jsonl and times.jsonl; the same as
    lm-evaluation-harness lays out its results (lm-eval/MODEL); and, where every_eval_ever is installed, in its schema.
    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from fairground.evaluation.against import compare_runs
    from fairground.evaluation.environment import cores
    from fairground.evaluation.every_eval_ever import every_eval_ever_files
    from fairground.evaluation.exposure import read_canaries
    from fairground.evaluation.files import leaderboard_text, scores_text, write_files, write_run
    from fairground.evaluation.lm_eval_layout import lm_eval_files
    from fairground.evaluation.prices import priced
    from fairground.evaluation.report import html_report
    from fairground.evaluation.report_times import times_caption, times_table
    from fairground.evaluation.runner import Entrant, run_id
    from fairground.evaluation.runner import rank as measure
    from fairground.evaluation.sentences import sentences
    from fairground.evaluation.spread import spread
    from fairground.evaluation.suite import cut, drawn
    from fairground.evaluation.table import leaderboard_table
    from fairground.evaluation.weighted import check, read_weights
    from fairground.hub.reference import parse
    from fairground.store import RunJournal, begin_run, finish_run

    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, so no results can go into it; give --out another folder.")
    settings = Opening(threads, device, deterministic, allow_pickle)
    numbers = numbers_of_shots(shots)
    source = context.get_parameter_source("shots")
    named = (source is not None and source.name != "DEFAULT") or any(",shots=" in name for name in models)
    loaded = suite_named(suite, include_path, own_shots=not named)
    loaded = drawn(loaded, selection(shots_by, seed, loaded.selection))
    if tasks:
        loaded = cut(loaded, tasks.split(","))
    loaded, price_table = timed(loaded, times, goodput), _prices(prices)
    weighing = read_weights(weights) if weights is not None else {}
    check(weighing, loaded)
    references = [parse(name) for name in models]
    scoring = _scorer(scorer, references)

    def entrant(reference: Reference, given: int = 0) -> Entrant:
        identity = settings.identity(reference)
        path = Path(reference.target) / "canaries.json"
        canaries = read_canaries(path) if reference.kind == "path" and path.is_file() else None
        return Entrant(
            reference.name,
            lambda: settings.open(reference),
            given,
            identity=identity,
            device=None if reference.kind == "remote" else device if reference.kind != "uniform" else "cpu",
            known_as=known_as(reference, identity),
            canaries=canaries,
        )

    for reference in (*references, *([scoring] if scoring else [])):
        settings.fetch(reference)
    judges = judging(judge, how_judged, verdicts, judge_itself, judge_votes, entrant, settings)
    workers = cluster(on, settings, references) if on else None
    id_ = ""
    with begun(database, lambda: id_) as opened:
        earlier = finished_run(opened, against) if against else None
        entrants = [
            entrant(reference, given)
            for reference in references
            for given in (numbers if reference.shots is None else [reference.shots])
        ]
        scores = entrant(scoring) if scoring else None
        id_ = run_id(loaded, entrants, limit=limit, scorer=scores, judging=judges)
        if kept := begin_run(opened, id_, loaded.name, [f"{e.name},shots={e.shots}" for e in entrants], fresh=fresh):
            err.print(f"Going on with run {id_}: {kept:,} outcomes are kept (--fresh begins anew).", highlight=False)
        journal = RunJournal(opened, id_)
        environment: dict[str, Any] = {
            "command": ["fairground", *sys.argv[1:]],
            "threads": threads or cores(),
            "device": device,
        }
        with bar("{task.description}") as shown:
            task = shown.add_task("starting")

            def progress(p: Progress) -> None:
                said = f"{p.model}: {p.task.replace('_', ' ')}"
                shown.update(task, description=said, completed=p.done, total=p.total)

            if workers:
                entrants = spread(
                    entrants, loaded, workers, journal, models=workers.models, limit=limit, progress=progress
                )
                environment["workers"] = workers.workers
            run = measure(
                entrants,
                loaded,
                limit=limit,
                scorer=scores,
                judging=judges,
                progress=progress,
                environment=environment,
                journal=journal,
                weights=weighing,
            )
        run = replace(run, leaderboard=priced(run.leaderboard, price_table))
        findings = sentences(run.leaderboard, most=MOST_SENTENCES, where="the table beneath")
        laid_out = lm_eval_files(run, loaded)
        write_run(run, folder, {"report.html": html_report(run.leaderboard, run.samples, findings), **laid_out})
        finish_run(opened, id_, leaderboard_text(run), scores_text(run))
    if records := every_eval_ever_files(laid_out):
        write_files(folder, records)
    changes = compare_runs(earlier, (run.leaderboard, run.scores)) if earlier else []
    fallen = [entry for entry in changes if entry["fell"]]
    if as_json:
        print(leaderboard_text(run), end="")
        _gate(fallen, against)
        return
    out.print(leaderboard_table(run.leaderboard, sentences(run.leaderboard, most=MOST_SENTENCES)))
    if (table := times_table(run.leaderboard)) is not None:
        out.print()
        out.print(table)
        out.print(Text("\n" + times_caption(run.leaderboard), style="dim"))
    ranked = run.leaderboard["models"]
    first = next((model["name"] for model in ranked if model["family"] != "baseline"), references[0].name)
    out.print(f"\nThe report, with every answer, is {folder / 'report.html'}.", soft_wrap=True, highlight=False)
    out.print("Try next:", highlight=False)
    out.print(f"  fairground chat {first}", highlight=False, soft_wrap=True)
    precisions = {model["name"]: model["precision"] for model in ranked}
    if precisions[first] in ("float32", "bfloat16"):
        out.print(f"  fairground rank {first} {first}#int8 --limit 8", highlight=False, soft_wrap=True)
    _gate(fallen, against)


def _prices(path: Path | None) -> Prices | None:
    """The user's table of prices: the named one, else that in the home folder, else none."""
    from fairground.evaluation.prices import read_prices
    from fairground.hub.home import home

    if path is None and not (home() / "prices.toml").exists():
        return None
    return read_prices(path or home() / "prices.toml")


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
