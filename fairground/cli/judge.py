"""`judge`: how far a model's verdicts agree with people's, and what `rank` is told of its judges."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fairground.cli.app import AllowPickle, Deterministic, Device, Json, Opening, Threads, app, bar, err, out
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.evaluation.judges import Judging
    from fairground.evaluation.judging import Way, Winner
    from fairground.evaluation.runner import Entrant
    from fairground.evaluation.votes import JudgedPair
    from fairground.hub.reference import Reference

JUDGING = ("both", "pairwise", "rubric")
VERDICTS = ("auto", "likelihood", "written")

Judge = Annotated[
    list[str] | None,
    typer.Option("--judge", metavar="MODEL", help="Who judges the open answers; may be given again for a second one."),
]
HowJudged = Annotated[
    str, typer.Option("--judging", help="pairwise (both orders), rubric (grades of 1 to 5), or both.")
]
HowSaid = Annotated[
    str,
    typer.Option(
        "--verdicts", help="likelihood (of the possible verdicts), written, or auto: by likelihood where it can score."
    ),
]
JudgeItself = Annotated[
    bool, typer.Option("--judge-itself", help="Let a model judge its own answers too; the results then say so.")
]
JudgeVotes = Annotated[
    Path | None,
    typer.Option("--judge-votes", metavar="FILE", help="Pairs that people voted on: measures the judge beside them."),
]


def known_as(reference: Reference, identity: str) -> frozenset[str]:
    """The names that a model has whatever its precision: its content's hash where it is here, and its bare name.

    Two models of the same bare name are taken for one: a judge that is left out wrongly can be let in.
    """
    target = reference.target
    if reference.kind == "remote":
        return frozenset({target.removeprefix("openai:").rpartition("@")[0].rpartition("/")[2].lower()})
    bare = Path(target.removeprefix("hf:").partition("@")[0]).name.removesuffix(".gguf").lower()
    return frozenset({bare, identity.partition(" ")[0]})


def judging(
    names: Sequence[str] | None,
    how: str,
    said: str,
    itself: bool,
    votes: Path | None,
    entrant: Callable[[Reference], Entrant],
    settings: Opening,
) -> Judging | None:
    """What `rank` was told of its judges; None where it was told of none. Raises RequestError for a contradiction."""
    from fairground.evaluation import agreement
    from fairground.evaluation.judges import KINDS, Judging
    from fairground.evaluation.votes import read_votes
    from fairground.hub.reference import parse

    _one_of("--judging", how, JUDGING)
    way = _way(said)
    if not names:
        if itself or votes or how != "both" or way:
            raise RequestError("There is no judge; name one with --judge MODEL.")
        return None
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise RequestError(f"The judge {repeated[0]!r} is named twice; name each once.")
    if votes:
        agreement.require()
    people = tuple(read_votes(votes)) if votes else ()
    references = [parse(name) for name in names]
    for reference in references:
        settings.fetch(reference)
    kinds = tuple(kind for kind in KINDS if how in ("both", kind))
    return Judging(tuple(map(entrant, references)), kinds, way, itself, people)


def _one_of(option: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise RequestError(f"{option} is {given!r}; use one of {', '.join(known)}.")


def _way(said: str) -> Way | None:
    _one_of("--verdicts", said, VERDICTS)
    return None if said == "auto" else cast("Way", said)


@app.command(epilog="Example: fairground judge smollm2 --votes votes.jsonl --limit 100")
def judge(
    judges: Annotated[
        list[str], typer.Argument(metavar="JUDGE...", help="Models, or files of verdicts on the same pairs.")
    ],
    votes: Annotated[
        Path, typer.Option(help="csv or jsonl with prompt, answer_a, answer_b and winner, a line a vote.")
    ],
    limit: Annotated[int | None, typer.Option(help="Only N pairs, drawn by a fixed shuffle.", min=1)] = None,
    verdicts: HowSaid = "auto",
    threads: Threads = None,
    device: Device = "cpu",
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
    as_json: Json = False,
) -> None:
    """Measure judges against people's votes on pairs of answers, by Krippendorff's alpha with intervals.

    A model is asked about each pair in both orders; where the two disagree, its verdict is a tie. A file holds verdicts
    given before: `pair`, as in the votes, and `winner`.
    """
    from fairground.evaluation import agreement
    from fairground.evaluation.votes import ENDINGS, read_verdicts, read_votes
    from fairground.hub.reference import parse

    agreement.require()
    way = _way(verdicts)
    pairs = read_votes(votes, limit)
    recorded = {
        name: read_verdicts(name, pairs) for name in judges if Path(name).suffix.lower() in ENDINGS
    }  # read before any model is opened
    references = {name: parse(name) for name in judges if name not in recorded}
    settings = Opening(threads, device, deterministic, allow_pickle)
    for reference in references.values():
        settings.fetch(reference)
    found: list[dict[str, Any]] = []
    given: dict[str, dict[str, Winner | None]] = {}
    for name in dict.fromkeys(judges):
        if name in recorded:
            given[name] = dict(recorded[name])
            about: dict[str, Any] = {"recorded": True, **agreement.with_people(pairs, given[name])}
        else:
            given[name], about = _asked(settings, references[name], pairs, way)
        found.append({"judge": name, **about})
    between = [
        {"a": a, "b": b, **agreement.between(given[a], given[b])} for i, a in enumerate(given) for b in list(given)[:i]
    ]
    people = agreement.among_people(pairs)
    if as_json:
        print(json.dumps({"votes": str(votes), "people": people, "judges": found, "between": between}, indent=2))
        return
    _print(str(votes), people, found, between)


def _asked(
    settings: Opening, reference: Reference, pairs: Sequence[JudgedPair], way: Way | None
) -> tuple[dict[str, Winner | None], dict[str, Any]]:
    """A model's verdicts on the pairs, and what is said of it."""
    from fairground.evaluation.journal import NoJournal
    from fairground.evaluation.judges import against_people, ask, on_pairs

    generator = settings.open(reference)
    try:
        with bar("{task.description}") as shown:
            task = shown.add_task(f"{reference.name}: judging", total=2 * len(pairs))
            heard = ask(
                generator,
                [one for pair in pairs for one in pair.asked()],
                way=way,
                journal=NoJournal(),
                identity=reference.name,
                on_done=lambda _: lambda count: shown.advance(task, count),
            )
        about = against_people(pairs, heard)
        del about["of"]
        return on_pairs(pairs, heard), {"precision": generator.info.precision, "way": heard.way, **about}
    finally:
        generator.close()


def _print(
    votes: str, people: dict[str, Any], found: Sequence[dict[str, Any]], between: Sequence[dict[str, Any]]
) -> None:
    from rich.table import Table
    from rich.text import Text

    from fairground.evaluation import columns as c
    from fairground.evaluation.report_judges import alpha_text

    share = c.Column("share", "", "%")

    def percent(entry: Any) -> str:
        found = c.estimate(entry)
        return c.DASH if found is None else share.number(found.value)

    title = f"Judges beside people · {people['pairs']:,} pairs, {people['votes']:,} votes"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("Judge", overflow="fold")
    for head in ("Alpha (95%)", "Same\nverdict %", "Same in\nboth orders %", "Says\nfirst %", "Pairs"):
        table.add_column(head, justify="right", no_wrap=True)
    rows = [{"judge": "one person", **people["one_person"]}] if people["one_person"] else []
    for row in [*rows, *found]:
        table.add_row(
            Text(c.printable(row["judge"])),
            alpha_text(row["alpha"]) or c.DASH,
            *(percent(row.get(key)) for key in ("same", "order_agreement", "says_first")),
            f"{row['pairs']:,}",
        )
    out.print(table)
    out.print(
        "\nAlpha: Krippendorff's, ordinal (a tie lies between the two), with the majority of people; 1 is perfect, 0 "
        "is chance. One person is held against the majority of the others. A model names a winner only where it does "
        "so in both orders.",
        style="dim", highlight=False,
    )  # fmt: skip
    if everyone := alpha_text(people["everyone"]["alpha"]):
        out.print(f"All votes among themselves: alpha {everyone}.", highlight=False)
    for row in between:
        out.print(
            f"{row['a']} and {row['b']}: alpha {alpha_text(row['alpha']) or c.DASH} on {row['pairs']:,} pairs.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for row in found:
        if row.get("unreadable"):
            sentence = f"{row['judge']}: {row['unreadable']:,} of {row['asked']:,} verdicts could not be read"
            first = f"; the first: {row['first_unreadable'].strip()!r}" if "first_unreadable" in row else ""
            err.print(c.printable(f"{sentence}{first}."), highlight=False, soft_wrap=True, markup=False)
        if row.get("failed"):
            sentence = f"{row['judge']}: {row['failed']:,} of {row['asked']:,} requests failed; the first"
            err.print(c.printable(f"{sentence}: {row['first_failure']}"), highlight=False, soft_wrap=True, markup=False)
