"""The report's item browser: every item once, with every model's answer side by side.

The items lie in the page as compressed JSON and are drawn by report_script.js when they are opened, so that a page of
thousands of items opens as fast as one of ten.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairground.evaluation import columns as c
from fairground.evaluation.report_markup import text

MAX_BYTES = 4_200_000  # of the compressed items in base64, so that the whole page stays under 5 MB
_MAX_JSON = 60_000_000  # what a phone's browser can hold, in bytes
_LONGEST_TEXT = 2_000
_SHOWN_ELSEWHERE = frozenset(
    {"model", "task", "id", "asked", "choices", "scores", "chosen", "gold", "right", "answer", "domain", "note"}
)

Packed = list[Any]


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
    """The browser's HTML; where there are more items than fit, those on which the models differ are kept first, and
    the page says how many there were.

    `models` are the leaderboard's, in its order. A sample may lack any key.
    """
    floors = frozenset(str(model.get("model")) for model in models if c.is_floor(model))
    items = _items(samples, [str(model.get("model")) for model in models])
    if not items:
        return "<p>This run kept no samples.</p>"
    labels = list(dict.fromkeys([str(m.get("model")) for m in models] + [one for i in items for one in i.answers]))
    # Where a task asks the same of every item, only the choices tell its items apart.
    asked = Counter((item.task, item.asked) for item in items)
    differ = [item.differ(floors) for item in items]
    drawn = [
        json.dumps(_pack(item, labels, own, asked[item.task, item.asked] > 1), ensure_ascii=False, allow_nan=False)
        for item, own in zip(items, differ, strict=True)
    ]
    # Sorted by whether they agree: the order within each half stays the suite's.
    first = sorted(range(len(items)), key=lambda i: not differ[i])
    data, count = _compressed(labels, drawn, first)
    tasks = {item.task: c.words(item.task) for item in items}
    domains = {d: c.words(d) for i in items for s in i.answers.values() if (d := str(s.get("domain") or ""))}
    cut = ""
    if count < len(items):
        cut = (
            f"<p>{count:,} of {len(items):,} items are on this page, those on which the models differ first; "
            "<code>samples.jsonl</code> has all.</p>"
        )
    return (
        '<form class="filters" id="filters" hidden role="search" aria-label="Items">'
        '<label>Contains <input type="search" id="contains" autocomplete="off"></label>'
        f"{_select('task', 'Task', tasks)}{_select('domain', 'Domain', domains)}"
        '<label class="check"><input type="checkbox" id="differ"> only where models differ</label>'
        '<output id="count" aria-live="polite"></output></form>'
        f'{cut}<p id="unread">The items are shown by this page\'s own script; where none may run, '
        "<code>samples.jsonl</code> beside this page has them.</p>"
        '<div id="items"></div><button type="button" id="more" hidden>Show more</button>'
        f'<script type="text/plain" id="packed">{data}</script>'
    )


def _select(name: str, title: str, options: Mapping[str, str]) -> str:
    shown = "".join(f'<option value="{text(value)}">{text(said)}</option>' for value, said in options.items())
    hidden = "" if len(options) > 1 else " hidden"
    return f'<label{hidden}>{title} <select id="{name}"><option value="">all</option>{shown}</select></label>'


def _compressed(labels: Sequence[str], drawn: Sequence[str], first: Sequence[int]) -> tuple[str, int]:
    """The items as base64 of zlib's format, as many of `first` as fit, and how many those are."""
    sizes = [len(drawn[i].encode()) for i in first]
    count = len(first)
    while sum(sizes[:count]) > _MAX_JSON:
        count = count * 9 // 10
    head = json.dumps([c.printable(one) for one in labels], ensure_ascii=False)
    while True:
        items = ",".join(drawn[i] for i in sorted(first[:count]))
        packed = base64.b64encode(zlib.compress(f'{{"models":{head},"items":[{items}]}}'.encode(), 9)).decode()
        if len(packed) <= MAX_BYTES or not count:
            return packed, count
        count = min(count - 1, int(count * MAX_BYTES / len(packed)))


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


def _pack(item: _Item, labels: Sequence[str], differ: bool, alike: bool) -> Packed:
    """[task, domain, id, summary, asked, choices, index of the right one or -1, whether models differ, answers], as
    report_script.js reads it; `answers` are in the order of `labels`, 0 where a model has none."""
    asked = item.asked.strip()
    choices = _choices(item)
    gold = next((at for s in item.answers.values() if (at := _index(s.get("gold"), choices)) is not None), -1)
    domain = next((str(s["domain"]) for s in item.answers.values() if s.get("domain")), "")
    summary = f"{item.id}: {choices[0]}" if alike and choices else "" if asked else item.id
    answers = [
        _answer(sample, choices, len(str(sample.get("asked") or "")) > len(item.asked))
        if (sample := item.answers.get(label)) is not None
        else 0
        for label in labels
    ]
    while answers and answers[-1] == 0:
        answers.pop()
    shown = [_cut(choice) for choice in choices]
    head = [c.printable(one) for one in (item.task, domain, item.id, summary)]
    return [*head, _cut(asked), shown, gold, int(differ), answers]


def _answer(sample: Mapping[str, Any], choices: Sequence[str], longer: bool) -> Packed:
    """[right 1, wrong 0 or unjudged -1, index of the choice or -1, a score for each choice, answer, facts, longer]."""
    right = int(sample["right"]) if isinstance(sample.get("right"), bool) else -1
    chosen = _index(sample.get("chosen"), choices)
    scores = [_fact(one) for one in _scores(sample.get("scores"))] if choices else []
    answer = sample.get("answer")
    if answer is None and not choices and sample.get("chosen") is not None:
        answer = sample["chosen"]
    facts = [f"{c.words(str(key))}: {value}" for key, value in _facts(sample, bool(choices))]
    packed = [right, -1 if chosen is None else chosen, scores, None if answer is None else _cut(str(answer))]
    return [*packed, _cut(" · ".join(facts)), int(longer)]


def _choices(item: _Item) -> list[str]:
    """The choices, where every model that answered was shown the same; otherwise a common table would lie."""
    shown = [s.get("choices") for s in item.answers.values() if "error" not in s]
    first = shown[0] if shown else None
    if not isinstance(first, Sequence) or isinstance(first, str) or any(other != first for other in shown):
        return []
    return [str(choice) for choice in first]


def _facts(sample: Mapping[str, Any], tabled: bool) -> Iterator[tuple[str, str]]:
    if not tabled and (scores := _scores(sample.get("scores"))):
        yield "log-likelihoods", " / ".join(map(_fact, scores))
    for key, value in sample.items():
        if key in _SHOWN_ELSEWHERE:
            continue
        if isinstance(value, str | int | float) and value != "":
            yield key, _fact(value)
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            yield key, " / ".join(value)


def _scores(scores: Any) -> Sequence[Any]:
    return scores if isinstance(scores, Sequence) and not isinstance(scores, str) else []


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return c.minus(f"{value:.2f}") if math.isfinite(value) else c.DASH
    return c.DASH if value is None else str(value)


def _index(answer: Any, choices: Sequence[str]) -> int | None:
    """Which choice an index or a text names."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer if 0 <= answer < len(choices) else None
    return choices.index(answer) if isinstance(answer, str) and answer in choices else None


def _cut(long: str) -> str:
    """Printable and, where very long, cut, saying so."""
    if len(long) <= _LONGEST_TEXT:
        return c.printable(long)
    return f"{c.printable(long[:_LONGEST_TEXT])}… ({len(long):,} characters in all)"
