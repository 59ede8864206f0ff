"""The report's item browser: every item once, with every model's answer side by side."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairground.evaluation import columns as c

MAX_BYTES = 4_000_000  # so that the whole page stays under 5 MB
_LONGEST_TEXT = 2_000
_LONGEST_SUMMARY = 110
_SHOWN_ELSEWHERE = frozenset(
    {"model", "task", "id", "asked", "choices", "scores", "chosen", "gold", "right", "answer", "domain", "note"}
)


@dataclass(frozen=True, slots=True)
class _Item:
    """One item as every model met it: `answers` by model label, in the leaderboard's order."""

    task: str
    id: str
    answers: Mapping[str, Mapping[str, Any]]

    @property
    def asked(self) -> str:
        """What was asked, without the examples that some models were given before it: the shortest prompt."""
        return min((str(s["asked"]) for s in self.answers.values() if s.get("asked")), key=len, default="")

    def differ(self, floors: frozenset[str]) -> bool:
        """Whether the models disagree; a guesser's choices are no opinion."""
        judged = [s for label, s in self.answers.items() if label not in floors]
        for key in ("chosen", "right", "answer"):
            if len({repr(s[key]) for s in judged if s.get(key) is not None}) > 1:
                return True
        return False


def browser(samples: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]]) -> str:
    """The items as HTML that works without a script; where they would be more than MAX_BYTES, those on which the models
    differ are kept first and the page says how many there were.

    `models` are the leaderboard's, in its order. A sample may lack any key.
    """
    floors = frozenset(str(model.get("model")) for model in models if c.is_floor(model))
    items = _items(samples, [str(model.get("model")) for model in models])
    if not items:
        return "<p>This run kept no samples.</p>"
    # Where a task asks the same of every item, only the choices tell its items apart.
    asked = Counter((item.task, item.asked) for item in items)
    drawn: dict[int, str] = {}
    left = MAX_BYTES
    # Sorted by whether they agree: the order within each half stays the suite's.
    for i in sorted(range(len(items)), key=lambda i: not items[i].differ(floors)):
        text = _draw(items[i], items[i].differ(floors), asked[items[i].task, items[i].asked] > 1)
        if (left := left - len(text.encode())) < 0:
            break
        drawn[i] = text
    tasks = dict.fromkeys(item.task for item in items)
    options = "".join(f'<option value="{_text(task)}">{_text(c.words(task))}</option>' for task in tasks)
    cut = ""
    if len(drawn) < len(items):
        cut = (
            f"<p>{len(drawn):,} of {len(items):,} items are on this page, those on which the models differ first; "
            "<code>samples.jsonl</code> has all.</p>"
        )
    return (
        '<form class="filters" id="filters" hidden role="search" aria-label="Items">'
        '<label>Contains <input type="search" id="contains" autocomplete="off"></label>'
        f'<label>Task <select id="task"><option value="">all</option>{options}</select></label>'
        '<label class="check"><input type="checkbox" id="differ"> only where models differ</label>'
        '<output id="count" aria-live="polite"></output></form>'
        f'{cut}<div id="items">{"".join(drawn[i] for i in sorted(drawn))}</div>'
        '<button type="button" id="more" hidden>Show more</button>'
    )


def _items(samples: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[_Item]:
    place = {label: i for i, label in enumerate(order)}
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for sample in samples:
        key = (str(sample.get("task", "?")), str(sample.get("id", "?")))
        found.setdefault(key, {})[str(sample.get("model", "?"))] = sample
    return [
        _Item(task, id_, dict(sorted(answers.items(), key=lambda entry: place.get(entry[0], len(place)))))
        for (task, id_), answers in found.items()
    ]


def _draw(item: _Item, differ: bool, alike: bool) -> str:
    asked = item.asked.strip()
    choices = _choices(item)
    summary = " ".join((f"{item.id}: {choices[0]}" if alike and choices else asked or item.id).split())
    judged = [s["right"] for s in item.answers.values() if isinstance(s.get("right"), bool)]
    score = f'<span class="score">{sum(judged)} of {len(judged)} right</span>' if judged else ""
    short = summary if len(summary) <= _LONGEST_SUMMARY else summary[: _LONGEST_SUMMARY - 1] + "…"
    body = [f'<p class="id">{_text(item.id)}</p>'] if asked else []
    if asked and short != asked:
        body.append(f'<p class="asked">{_long(asked)}</p>')
    longer = [label for label, s in item.answers.items() if s.get("asked") and len(str(s["asked"])) > len(item.asked)]
    if longer:
        body.append(f'<p class="id">Asked with examples or a longer prompt: {_text(c.listing(longer))}</p>')
    if choices:
        body.append(_choice_table(item, choices))
    if not choices or any(s.get("answer") is not None for s in item.answers.values()):
        body.append(_cards(item))
    return (
        f'<details class="item" data-task="{_text(item.task)}"{" data-differ" if differ else ""}>'
        f'<summary><span class="task">{_text(c.words(item.task))}</span> '
        f'<span class="short">{_text(short)}</span> {score}</summary>{"".join(body)}</details>\n'
    )


def _choices(item: _Item) -> list[str]:
    """The choices, where every model that answered was shown the same; otherwise a common table would lie."""
    shown = [s.get("choices") for s in item.answers.values()]
    first = shown[0]
    if not isinstance(first, Sequence) or isinstance(first, str) or any(other != first for other in shown):
        return []
    return [str(choice) for choice in first]


def _choice_table(item: _Item, choices: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{_text(label)}</th>' for label in item.answers)
    gold = next((at for s in item.answers.values() if (at := _index(s.get("gold"), choices)) is not None), None)
    rows = []
    for i, choice in enumerate(choices):
        cells = []
        for sample in item.answers.values():
            score = _score(sample.get("scores"), i)
            if _index(sample.get("chosen"), choices) == i:
                verdict = "right" if i == gold else "wrong" if gold is not None else "chosen"
                cells.append(f'<td class="{verdict}"><b>chosen</b> {score}</td>')
            else:
                cells.append(f"<td>{score}</td>")
        mark = ' <span class="gold">right answer</span>' if i == gold else ""
        rows.append(f'<tr><th scope="row">{_long(choice)}{mark}</th>{"".join(cells)}</tr>')
    long = " long" if max(map(len, choices)) > 120 else ""
    scored = any(s.get("scores") for s in item.answers.values())
    caption = "<caption>Numbers: log-likelihood of the choice</caption>" if scored else ""
    return (
        '<div class="scroll" role="group" tabindex="0" aria-label="Choices by model">'
        f'<table class="choices{long}">'
        f'{caption}<thead><tr><th scope="col">Choice</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cards(item: _Item) -> str:
    cards = []
    for label, sample in item.answers.items():
        lines = []
        if isinstance(sample.get("right"), bool):
            lines.append(
                f'<p class="{"right" if sample["right"] else "wrong"}">{"right" if sample["right"] else "wrong"}</p>'
            )
        if sample.get("answer") is not None:
            answer = str(sample["answer"])
            lines.append(f'<p class="answer">{_long(answer)}</p>' if answer.strip() else "<p>(an empty answer)</p>")
        elif sample.get("chosen") is not None:
            lines.append(f'<p class="answer">{_long(str(sample["chosen"]))}</p>')
        facts = [f"{c.words(str(key))} {_fact(value)}" for key, value in _facts(sample)]
        if facts:
            lines.append(f'<p class="facts">{_long(", ".join(facts))}</p>')
        cards.append(f'<section class="card"><h3>{_text(label)}</h3>{"".join(lines)}</section>')
    return f'<div class="cards">{"".join(cards)}</div>'


def _facts(sample: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    scores = sample.get("scores")
    if isinstance(scores, Sequence) and not isinstance(scores, str) and scores:
        yield "log-likelihoods", " / ".join(_fact(score) for score in scores)
    for key, value in sample.items():
        if key not in _SHOWN_ELSEWHERE and isinstance(value, str | int | float) and value != "":
            yield key, value


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return c.minus(f"{value:.2f}") if math.isfinite(value) else c.DASH
    return str(value)


def _score(scores: Any, i: int) -> str:
    if not isinstance(scores, Sequence) or isinstance(scores, str) or i >= len(scores):
        return ""
    score = scores[i]
    usable = isinstance(score, int | float) and math.isfinite(score)
    return c.minus(f"{score:.2f}") if usable else c.DASH


def _index(answer: Any, choices: Sequence[str]) -> int | None:
    """Which choice an index or a text names."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer if 0 <= answer < len(choices) else None
    return choices.index(answer) if isinstance(answer, str) and answer in choices else None


def _text(text: str) -> str:
    return html.escape(c.printable(text))


def _long(text: str) -> str:
    """Escaped and, where very long, cut, saying so."""
    if len(text) <= _LONGEST_TEXT:
        return _text(text)
    return f'{_text(text[:_LONGEST_TEXT])}… <i class="id">({len(text):,} characters in all)</i>'
