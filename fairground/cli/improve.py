"""`improve` and `verdict`: the arena's votes become a better model, and people say whether it is one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairground.cli.adapters import base_name
from fairground.cli.app import Device, Json, Opening, Threads, app, bar, entry_of, needs_local, out
from fairground.cli.arena import DatabaseOption, arena_database, redaction
from fairground.cli.data import texts_of_suites
from fairground.cli.refine import watched
from fairground.cli.suite_options import suite_named, timed
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.evaluation.suite import Suite
    from fairground.governance.chain import Entry
    from fairground.hub.reference import Reference
    from fairground.loop.held_out import Results
    from fairground.loop.improvement import Prepared
    from fairground.loop.ledger import Ledger
    from fairground.loop.verdict import Verdict
    from fairground.store import Database
    from fairground.training.recipe import Recipe
    from fairground.types import Generator

MOST_WRITTEN = 128  # tokens of an answer that is written for a judge

say = partial(out.print, highlight=False, soft_wrap=True, markup=False)


@app.command(epilog="Example: fairground improve smollm2 --from votes --rank")
def improve(
    model: Annotated[str, typer.Argument(help="The model to begin with.")],
    source: Annotated[str, typer.Option("--from", help="What to learn from: votes, those of this arena.")] = "votes",
    folder: Annotated[
        Path | None, typer.Option("--out", help="The new model's folder (default: ./NAME); given again, it goes on.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What people call it (default: MODEL-improved).")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe.toml, whose model does not count.")] = None,
    lora: Annotated[int | None, typer.Option(help="The adapter's rank (default: 16).", min=1)] = None,
    beta: Annotated[float | None, typer.Option(help="How dear it is to leave the model as it was.")] = None,
    passes: Annotated[float | None, typer.Option(help="Over the pairs (default: 3).")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="The peak.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same weights.", min=0)] = None,
    judge: Annotated[
        str | None, typer.Option(help="A model that compares the two models' answers to the held-out prompts.")
    ] = None,
    ranked: Annotated[
        bool, typer.Option("--rank/--no-rank", help="Rank both on a suite afterwards, and say what rose or fell.")
    ] = True,
    suite: Annotated[str, typer.Option(help="The suite of that ranking.")] = "house",
    limit: Annotated[int | None, typer.Option(help="Only the first N items of each of its tasks.", min=1)] = None,
    database: DatabaseOption = None,
    threads: Threads = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Make a better model from the arena's votes, and say whether it is better.

    Votes become pairs of a preferred and a rejected answer: only of conversations whose person allows it, without
    voters in quarantine, ties and duplicates, and with personal data taken out. An adapter learns them by direct
    preference optimisation, and people meet the result in the arena. A fifth of the prompts is held out to measure on.
    The log names every step with its hashes; `fairground audit` verifies them.
    """
    with needs_local("Training"):
        import fairground.training.run  # noqa: F401
    from fairground.hub.content import content_hash
    from fairground.hub.reference import parse
    from fairground.loop.improvement import Origin, enter, learn, prepare
    from fairground.loop.ledger import Ledger
    from fairground.loop.steps import log_ranking

    if source != "votes":
        raise RequestError(f"There is nothing called {source!r} to learn from; give --from votes.")
    reference = parse(model)
    if reference.kind not in ("catalogue", "path"):
        raise RequestError(f"{model} has no weights here that could learn; name a model on this machine.")
    # Whatever is wrong with these is said before hours of training.
    asked = timed(suite_named(suite, None, True), False, None) if ranked else None
    judging = parse(judge) if judge else None
    settings = Opening(threads, device, deterministic=False, allow_pickle=False)
    for needed in (reference, *([judging] if judging else [])):
        settings.fetch(needed)
    path, entry = _base(settings, reference), entry_of(reference)
    name = name or _new_name(reference)
    folder = folder or Path(name)
    with arena_database(database) as opened:
        ledger = Ledger(opened)
        origin = Origin(reference.name, path, content_hash(path), entry.licence if entry else "")
        with bar("{task.description}") as shown:
            task = shown.add_task("reading votes", total=None)
            prepared = prepare(
                ledger, origin, name, folder, redact=redaction(),
                progress=lambda count: shown.update(task, description=f"reading votes: {count:,}"),
            )  # fmt: skip
        told = _Told(as_json)
        for line in prepared.sentences():
            told.say(f"{line[0].upper()}{line[1:]}.")
        wanted = _recipe(recipe, path, seed, passes, lora, beta, learning_rate)
        with watched(as_json) as watch:
            trained = learn(
                ledger, prepared, wanted, base=base_name(reference.target), suites=texts_of_suites,
                threads=threads, device=device, watch=watch,
            )  # fmt: skip
        new = parse(str(folder.absolute()))
        results, about = _measured(settings, reference, new, prepared, judging)
        enter(ledger, prepared, trained, about["parameters"], about["family"])
        told.say(f"The model is {folder}, and people meet it as {name} from the next `fairground up` on.")
        said = _verdicts(ledger, trained, results, judge)
        for verdict in said:
            told.say(verdict.sentence())
        found = None
        if asked is not None:
            found = _ranked(opened, settings, reference, parse(name), asked, limit)
            log_ranking(ledger, trained, found["run"], found["comparisons"])
            for sentence in found["sentences"]:
                told.say(sentence)
        told.say(f"What people say of the two, once they have voted: fairground verdict {name}")
        if as_json:
            verdicts = [verdict.as_json() | {"sentence": verdict.sentence()} for verdict in said]
            told.end({"name": name, "folder": str(folder), **prepared.record, "verdicts": verdicts, "ranking": found})


@app.command(epilog="Example: fairground verdict smollm2-improved")
def verdict(
    name: Annotated[str, typer.Argument(help="A model that `fairground improve` made.")],
    database: DatabaseOption = None,
    as_json: Json = False,
) -> None:
    """Say whether people prefer an improved model to the one it came from, by their blind votes on the two.

    The interval is clustered by voter. What was found is written in the log.
    """
    from fairground.loop.ledger import Ledger
    from fairground.loop.steps import newest_training, verdict_of_votes

    with arena_database(database) as opened:
        ledger = Ledger(opened)
        trained = newest_training(ledger, name)
        if trained is None:
            raise RequestError(f"The log knows no model {name!r} that votes made; `fairground improve` makes one.")
        found = verdict_of_votes(ledger, trained)
    if found is None:
        both = f"{name} and {trained.body['model']}"
        raise RequestError(f"Nobody has voted on {both} yet; let people meet them with `fairground up`.")
    said, entry = found
    if as_json:
        print(json.dumps({**said.as_json(), "sentence": said.sentence(), "entry": entry.number}, indent=1))
    else:
        say(said.sentence())


class _Told:
    """Sentences as they come, or JSON at the end."""

    def __init__(self, as_json: bool) -> None:
        self._quiet = as_json

    def say(self, sentence: str) -> None:
        if not self._quiet:
            say(sentence)

    def end(self, value: Mapping[str, Any]) -> None:
        print(json.dumps(value, indent=1))


def _base(settings: Opening, reference: Reference) -> Path:
    """Where the model to begin with lies. Raises RequestError for an adapter, which cannot be adapted again."""
    from fairground.models.peft_files import holds_adapter

    path = settings.path(reference.name.partition("#")[0])
    if holds_adapter(path):
        raise RequestError(
            f"{reference.name} is an adapter, and an adapter of an adapter cannot be written; merge it first: "
            f"fairground merge {reference.name} --out FOLDER, and improve ./FOLDER."
        )
    return path


def _new_name(reference: Reference) -> str:
    """smollm2-improved of smollm2, then smollm2-improved-2."""
    from fairground.hub.made import made_models

    stem = reference.target if reference.kind == "catalogue" else Path(reference.target).resolve().stem
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem.rpartition("/")[2])
    plain = re.sub(r"-improved(-\d+)?$", "", stem)
    known = made_models()
    names = (f"{plain}-improved{f'-{number}' if number > 1 else ''}" for number in range(1, 10_000))
    # A folder of that name is the same command's, given again.
    free = (name for name in names if name not in known or known[name] == Path(name).absolute())
    return next(name for name in free if name != reference.name)


def _recipe(
    given: Path | None,
    path: Path,
    seed: int | None,
    passes: float | None,
    lora: int | None,
    beta: float | None,
    learning_rate: float | None,
) -> Recipe:
    """The recipe of a file, or the default one, with what the command line changes; always by preference."""
    from dataclasses import replace

    from fairground.loop.improvement import default_recipe
    from fairground.models.load import open_source
    from fairground.models.lora import LoraConfig
    from fairground.training.recipe import read_recipe

    context = open_source(path).config.context_length
    if given is None:
        recipe = default_recipe(path, context)
    else:
        recipe = read_recipe(str(given), {"model": str(path), "objective": "dpo"})
        recipe = replace(recipe, context=min(recipe.context, context))
    if lora is not None:
        recipe = replace(recipe, lora=replace(recipe.lora, rank=lora) if recipe.lora else LoraConfig(lora))
    rate = recipe.optimiser.learning_rate if learning_rate is None else learning_rate
    return replace(
        recipe,
        seed=recipe.seed if seed is None else seed,
        passes=recipe.passes if passes is None else passes,
        preference=recipe.preference if beta is None else replace(recipe.preference, beta=beta),
        optimiser=replace(recipe.optimiser, learning_rate=rate),
    )


@contextmanager
def _opened(settings: Opening, reference: Reference) -> Iterator[Generator]:
    generator = settings.open(reference)
    try:
        yield generator
    finally:
        generator.close()


def _measured(
    settings: Opening, old: Reference, new: Reference, prepared: Prepared, judge: Reference | None
) -> tuple[dict[str, Results], dict[str, Any]]:
    """The new model beside the old one: by measure the results for a verdict; and what is known of the new one."""
    from fairground.loop.held_out import agreement, answer_logprobs, judged, messages, written
    from fairground.loop.preferences import read_pairs
    from fairground.types import Sampling

    rows = read_pairs(prepared.measured)
    prompts = list(dict.fromkeys(messages(row["prompt"]) for row in rows))
    logprobs, answers, about = [], [], dict[str, Any]()
    for reference in (old, new):
        with _opened(settings, reference) as model, bar("{task.description}") as shown:
            task = shown.add_task(f"{reference.name}: held-out pairs", total=2 * len(rows))
            step = partial(_advance, shown, task)
            logprobs.append(answer_logprobs(model, rows, step))  # type: ignore[arg-type]
            if judge is not None:
                shown.update(task, description=f"{reference.name}: answers", completed=0, total=len(prompts))
                answers.append(written(model, prompts, Sampling(temperature=0.7, max_tokens=MOST_WRITTEN), step))
            about = {"parameters": model.info.parameters, "family": model.info.family}
    found = {"held_out_pairs": agreement(rows, logprobs[1], logprobs[0])}
    if judge is not None:
        with _opened(settings, judge) as model, bar("{task.description}") as shown:
            task = shown.add_task(f"{judge.name}: judging", total=2 * len(prompts))
            found["judge"] = judged(model, prompts, answers[1], answers[0], partial(_advance, shown, task))
    return found, about


def _advance(shown: Any, task: Any, count: int) -> None:
    shown.advance(task, count)


def _verdicts(ledger: Ledger, trained: Entry, results: Mapping[str, Results], judge: str | None) -> Sequence[Verdict]:
    """The verdicts, corrected for their number and written in the log."""
    from fairground.loop.steps import log_verdict
    from fairground.loop.verdict import together
    from fairground.loop.verdict import verdict as judged_by

    name, against = trained.body["name"], trained.body["model"]
    said = together(
        [
            judged_by(name, against, measure, found, by=judge or "" if measure == "judge" else "")
            for measure, found in results.items()
            if found
        ]
    )
    for one in said:
        log_verdict(ledger, trained, one)
    return said


def _ranked(
    database: Database,
    settings: Opening,
    old: Reference,
    new: Reference,
    suite: Suite,
    limit: int | None,
) -> dict[str, Any]:
    """Both models on a suite, kept with the other runs: what differs significantly, new less old."""
    from fairground.evaluation.files import leaderboard_text, scores_text
    from fairground.evaluation.runner import Entrant, run_id
    from fairground.evaluation.runner import rank as measure
    from fairground.evaluation.sentences import sentences
    from fairground.store import RunJournal, begin_run, finish_run

    entrants = [
        Entrant(one.name, partial(settings.open, one), identity=settings.identity(one), device=settings.device)
        for one in (old, new)
    ]
    id_ = run_id(suite, entrants, limit=limit, scorer=None)
    begin_run(database, id_, suite.name, [f"{one.name},shots=0" for one in entrants])
    with bar("{task.description}") as shown:
        task = shown.add_task("ranking")

        def progress(p: Any) -> None:
            shown.update(task, description=f"{p.model}: {p.task}", completed=p.done, total=p.total)

        run = measure(entrants, suite, limit=limit, journal=RunJournal(database, id_), progress=progress)
    finish_run(database, id_, leaderboard_text(run), scores_text(run))
    said = [f"On the suite {suite.name}, where {id_} names this run:", *sentences(run.leaderboard)]
    return {"run": id_, "comparisons": run.leaderboard["comparisons"], "sentences": said}
