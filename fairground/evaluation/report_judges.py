"""What the page and the terminal say of the judges: grades, win rates, what order does to them, and how far they agree
with people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairground.evaluation import columns as c
from fairground.evaluation.report_markup import estimated, row, table, text

_WIN_RATE = next(column for column in c.MORE if column.metric == "win_rate")
_JUDGED = next(column for column in c.COLUMNS if column.metric == "judged")
_WAYS = {
    "likelihood": "its verdict is the likeliest of the possible ones",
    "written": "it writes its verdict, which is read strictly",
}


def judges_section(leaderboard: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The page's section on judges as (name, title, HTML), in a list; none where nobody judged."""
    judges = leaderboard.get("judges") or []
    if not judges:
        return []
    about = (
        "<p>A judge reads the open answers: it grades each from 1 to 5, or compares two of them, in both orders. Only "
        "an answer preferred in both orders wins; anything else is a tie, and a tie is half a win. A judge is a model: "
        "its verdicts are worth as much as its agreement with people. All of them are in "
        "<code>judgements.jsonl</code>.</p>"
    )
    return [("judges", "Judges", about + "".join(_judge(judge, i, len(judges)) for i, judge in enumerate(judges)))]


def judge_captions(leaderboard: Mapping[str, Any]) -> Iterator[str]:
    """What must be said beneath a table with grades: who gave them, how, and how far to trust them."""
    for judge in (leaderboard.get("judges") or [])[:1]:
        name = c.printable(str(judge.get("model")))
        if judge.get("error"):
            yield f"The judge {name} failed: {c.printable(str(judge['error']))}"
            continue
        yield f"Judged by {name}: {_WAYS[judge['way']]}."
        yield from remarks(judge)


def remarks(judge: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on one judge: what could not be read, itself, the order of answers, people."""
    if unread := judge.get("unreadable"):
        yield f"{unread:,} of {judge['asked']:,} verdicts could not be read and count for nothing."
    if failed := judge.get("failed"):
        yield f"{failed:,} of {judge['asked']:,} requests failed and count for nothing."
    if judge.get("own"):
        own = c.listing([c.printable(str(label)) for label in judge["own"]])
        yield f"It judged its own answers too ({own})." if judge.get("itself") else f"It did not judge itself ({own})."
    if (agree := c.estimate(judge.get("order_agreement"))) is not None:
        yield f"It says the same of two answers in either order in {_WIN_RATE.text(agree)} of pairs."
    if (first := c.estimate(judge.get("says_first"))) is not None:
        yield f"Where it names a winner, that is the answer it saw first in {_WIN_RATE.text(first)} of cases."
    if people := judge.get("people"):
        yield from people_remarks(people)
    else:
        yield "Its agreement with people was not measured (--judge-votes)."


def people_remarks(people: Mapping[str, Any]) -> Iterator[str]:
    """How far a judge agrees with people, beside how far they agree with each other."""
    if (alpha := alpha_text(people.get("alpha"))) is None:
        yield "Its agreement with people has no value: too few of its verdicts could be read, or all say the same."
    else:
        yield f"Agreement with the majority of people on {people['pairs']:,} pairs: Krippendorff's alpha {alpha}."
    person = ((people.get("of") or {}).get("one_person") or {}).get("alpha")
    if (alone := alpha_text(person)) is not None:
        yield f"One person's with the majority of the others: {alone}."


def alpha_text(entry: Any) -> str | None:
    """An alpha with its interval: "0.31 (95% 0.27 to 0.35)"; None where there is none."""
    found = c.estimate(entry)
    if found is None:
        return None
    value = c.minus(f"{found.value:.2f}")
    if found.low is None or found.high is None:
        return value
    return f"{value} (95% {c.minus(f'{found.low:.2f}')} to {c.minus(f'{found.high:.2f}')})"


def _judge(judge: Mapping[str, Any], i: int, count: int) -> str:
    name = str(judge.get("model"))
    if judge.get("error"):
        return f"<h3>{text(name)}</h3><p>This judge failed: {text(judge['error'])}</p>"
    said = [f"{c.fact(judge, 'precision')}; {_WAYS[judge['way']]}.", *remarks(judge)]
    if count > 1 and i == 0:
        said.insert(1, "The leaderboard's grades and win rates are this judge's.")
    if judge.get("first_unreadable") is not None:
        said.append(f"The first answer that could not be read: {str(judge['first_unreadable']).strip()!r}.")
    if judge.get("first_failure"):
        said.append(f"The first failure: {judge['first_failure']}")
    body = f'<h3 id="judge-{i}">{text(name)}</h3><ul>' + "".join(f"<li>{text(line)}</li>" for line in said) + "</ul>"
    grades, rates = judge.get("grades") or {}, judge.get("win_rates") or {}
    if labels := list(dict.fromkeys([*grades, *rates])):
        heads = ["Model", "Grade <small>of 5</small>", "Win rate <small>%</small>"]
        rows = [row(text(own), (_cell(_JUDGED, grades.get(own)), _cell(_WIN_RATE, rates.get(own)))) for own in labels]
        body += table(heads, rows, label=f"What {name} says of each model")
    if pairs := judge.get("pairs"):
        heads = ["Pair", "Win rate <small>%</small>", "Wins", "Ties", "Losses"]
        rows = [
            row(
                text(f"{pair['a']} over {pair['b']}"),
                (_cell(_WIN_RATE, pair["win_rate"]), *(f"{pair[key]:,}" for key in ("wins", "ties", "losses"))),
            )
            for pair in pairs
        ]
        body += table(heads, rows, label=f"What {name} says of each pair")
    return body


def _cell(column: c.Column, entry: Any) -> str:
    found = c.estimate(entry)
    return c.DASH if found is None else estimated(column, found)
