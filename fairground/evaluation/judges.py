"""Judges at work: they read a run's open answers, or pairs that people voted on, and what they say is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from fairground.errors import CapabilityError, FairgroundError
from fairground.evaluation import agreement, intervals
from fairground.evaluation.aggregate import grades as mean_grade
from fairground.evaluation.journal import Journal
from fairground.evaluation.judging import (
    Judgement,
    Kind,
    ScoredVerdicts,
    VerdictTask,
    Way,
    Winner,
    WrittenVerdicts,
    both_orders,
    graded,
    orders_agree,
    pairwise,
)
from fairground.evaluation.measure import Bench, Row
from fairground.evaluation.progress import Meter
from fairground.evaluation.suite import Suite
from fairground.evaluation.tasks import OpenAnswers, Outcome
from fairground.evaluation.votes import JudgedPair
from fairground.types import Generator

if TYPE_CHECKING:
    from fairground.evaluation.runner import Entrant

Json = dict[str, Any]
KINDS: tuple[Kind, ...] = ("pairwise", "rubric")


@dataclass(frozen=True, slots=True)
class Judging:
    """Who judges a run's open answers, and how.

    `way` None: by likelihood where the judge can score, else written. `itself`: a model may judge its own answers too.
    With `people`, each judge is also asked about pairs that people voted on.
    """

    judges: tuple[Entrant, ...]
    kinds: tuple[Kind, ...] = KINDS
    way: Way | None = None
    itself: bool = False
    people: tuple[JudgedPair, ...] = ()

    def settings(self) -> Json:
        """What names a run by its judges."""
        return {
            "judges": [judge.identity or judge.name for judge in self.judges],
            "kinds": sorted(self.kinds),
            "way": self.way,
            "itself": self.itself,
            "people": [[pair.id, *pair.votes] for pair in self.people],
        }

    def work(self, models: int, items: int) -> int:
        """How many verdicts each judge is asked for, at most."""
        graded_ = models * items if "rubric" in self.kinds else 0
        compared = models * (models - 1) * items if "pairwise" in self.kinds else 0
        return graded_ + compared + 2 * len(self.people)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a judge said: a record by judgement, or why there is none."""

    way: Way
    said: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, str]

    def verdict(self, asked: Judgement) -> str | None:
        found = self.said.get(asked.id)
        return None if found is None else found["verdict"]

    def record(self, asked: Judgement) -> Json:
        """The verdict with what it was read from, or the failure."""
        found = self.said.get(asked.id)
        return {"verdict": None, "error": self.failed[asked.id]} if found is None else dict(found)


def ask(
    judge: Generator,
    judgements: Sequence[Judgement],
    *,
    way: Way | None,
    journal: Journal,
    identity: str,
    on_done: Callable[[str], Callable[[int], None]],
) -> Heard:
    """Asks for every judgement that the journal does not know, each once. Raises CapabilityError for a `way` that the
    judge does not have."""
    can = judge.info.can
    way = way or ("likelihood" if can.score else "written")
    if not (can.score if way == "likelihood" else can.generate):
        lacks = "score text" if way == "likelihood" else "write"
        raise CapabilityError(
            f"{judge.info.name} cannot {lacks}, so it gives no verdict in this way; use the other one"
        )
    items = tuple({one.id: one for one in judgements}.values())
    bench = Bench(judge, journal, identity)
    task: VerdictTask
    if way == "likelihood":
        task = ScoredVerdicts(name=ScoredVerdicts.kind, items=items)
        (result,) = bench.score_together([task], 0, on_done)
    else:
        task = WrittenVerdicts(name=WrittenVerdicts.kind, items=items)
        (result,) = bench.write_together([task], 0, on_done)
    said = {outcome.id: outcome.record for outcome in result.outcomes}
    unseen = {
        id_: f"The judge's context is {record['unseen']} tokens too short for the question and the answers."
        for id_, record in said.items()
        if "unseen" in record
    }
    return Heard(way, {id_: said[id_] for id_ in said if id_ not in unseen}, {**dict(result.failures), **unseen})


@dataclass(frozen=True, slots=True)
class _Grade:
    """A grade that is asked for of one model's answer."""

    model: str
    task: str
    answer: Outcome
    asked: Judgement


@dataclass(frozen=True, slots=True)
class _Duel:
    """A comparison that is asked for of two models' answers to one item, in both orders."""

    a: str
    b: str
    task: str
    answer: Outcome  # of a; its id, domain and cluster are those of b's too
    forwards: Judgement
    backwards: Judgement


@dataclass(slots=True)
class _Docket:
    """All that one judge is asked about a run's answers."""

    grades: list[_Grade] = field(default_factory=list)
    duels: list[_Duel] = field(default_factory=list)

    def judgements(self) -> list[Judgement]:
        both = [one for duel in self.duels for one in (duel.forwards, duel.backwards)]
        return [grade.asked for grade in self.grades] + both


def judge_rows(
    rows: Sequence[Row], entrants: Sequence[Entrant], suite: Suite, judging: Judging, meter: Meter, journal: Journal
) -> tuple[list[Json], list[Json]]:
    """Every judge on the rows' open answers: what `leaderboard.json` has under `judges`, and a record a judgement.

    The first judge's grades and win rates also become measures of the answers (`judged`, `win_rate`), so that they have
    columns and are compared; judges are not averaged, since each may have left out other models, its own. A judge that
    fails has its reason under `error`, and is named in the rows' notes.
    """
    models = [row for row in rows if row.shared_with is None]
    names = {entrant.name: entrant for entrant in entrants}
    found: list[Json] = []
    records: list[Json] = []
    for place, judge in enumerate(judging.judges):
        label = judge.label or judge.name
        meter.begin(label)
        own = [row.label for row in models if judge.same_model(names[row.name])]
        about: Json = {"model": label, "kinds": list(judging.kinds), "itself": judging.itself and bool(own), "own": own}
        docket = _docket(models, suite, judging, [] if judging.itself else own)
        people = [one for pair in judging.people for one in pair.asked()]
        try:
            generator = judge.open()
            try:
                info, identity = generator.info, judge.identity or judge.name
                heard = ask(
                    generator, [*docket.judgements(), *people],
                    way=judging.way, journal=journal, identity=identity, on_done=meter.of,
                )  # fmt: skip
            finally:
                generator.close()
        except FairgroundError as error:
            found.append({**about, "error": str(error)})
            for row in models:
                row.shared.notes.append(f"Not judged by {label}: {error}")
            continue
        found.append({**about, "precision": info.precision, "way": heard.way, **_summary(docket, heard, models)})
        if judging.people:
            found[-1]["people"] = against_people(judging.people, heard)
        records += _records(label, docket, heard)
        if place == 0:
            _into_answers(models, docket, heard)
        for row in models:
            if row.label in own:
                row.shared.notes.append(
                    f"Its own answers were judged by itself ({label}), as --judge-itself asked."
                    if judging.itself
                    else f"Not judged by {label}, which is the same model (--judge-itself allows it)."
                )
    return found, records


def _docket(models: Sequence[Row], suite: Suite, judging: Judging, left_out: Sequence[str]) -> _Docket:
    docket = _Docket()
    judged = [row for row in models if row.label not in left_out]
    for task in suite.of(OpenAnswers):
        items = {item.id: item for item in task.items}
        answers = {
            row.label: {outcome.id: outcome for outcome in row.shared.results[task.name].outcomes}
            for row in judged
            if task.name in row.shared.results
        }

        def about(answer: Outcome, items: Mapping[str, Any] = items) -> Json:
            item = items[answer.id]
            return {"rubric": item.rubric, "domain": answer.domain, "cluster": answer.cluster}

        if "rubric" in judging.kinds:
            docket.grades += [
                _Grade(label, task.name, own, graded(items[id_].prompt, own.record["answer"], **about(own)))
                for label, each in answers.items()
                for id_, own in each.items()
            ]
        if "pairwise" in judging.kinds:
            for a, b in combinations(answers, 2):
                for id_, own in answers[a].items():
                    if (other := answers[b].get(id_)) is None:
                        continue
                    question, texts = items[id_].prompt, (own.record["answer"], other.record["answer"])
                    forwards = pairwise(question, *texts, **about(own))
                    backwards = pairwise(question, *reversed(texts), **about(own))
                    docket.duels.append(_Duel(a, b, task.name, own, forwards, backwards))
    return docket


def _summary(docket: _Docket, heard: Heard, models: Sequence[Row]) -> Json:
    """The judge's numbers: how many verdicts could be read, mean grades, win rates, and what order does to it."""
    clusters = {row.label: ([], []) for row in models}  # type: dict[str, tuple[list[float], list[str]]]
    for grade in docket.grades:
        if (verdict := heard.verdict(grade.asked)) is not None:
            clusters[grade.model][0].append(float(verdict))
            clusters[grade.model][1].append(grade.answer.cluster)
    grades = {
        label: mean_grade({str(i): one for i, one in enumerate(zip(*own, strict=True))})
        for label, own in clusters.items()
        if own[0]
    }
    duels = [(duel, won) for duel in docket.duels if (won := _winner(duel, heard)) is not None]
    pairs = []
    for a, b in dict.fromkeys((duel.a, duel.b) for duel, _ in duels):
        own = [(_worth(won), duel.answer.cluster) for duel, won in duels if (duel.a, duel.b) == (a, b)]
        counted = {name: sum(worth == value for worth, _ in own) for name, value in _RESULTS.items()}
        pairs.append({"a": a, "b": b, "win_rate": _share(own), **counted})
    rates = {}
    for row in models:
        own = [(_worth(won), duel.answer.cluster) for duel, won in duels if duel.a == row.label]
        own += [(1 - _worth(won), duel.answer.cluster) for duel, won in duels if duel.b == row.label]
        if own:
            rates[row.label] = _share(own)
    asked = docket.judgements()
    orders = order_effects([(duel.forwards, duel.backwards) for duel in docket.duels], heard)
    return {**readable(asked, heard), "grades": grades, "win_rates": rates, "pairs": pairs, **orders}


_RESULTS = {"wins": 1.0, "ties": 0.5, "losses": 0.0}


def _winner(duel: _Duel, heard: Heard) -> Winner | None:
    return both_orders(heard.verdict(duel.forwards), heard.verdict(duel.backwards))


def _worth(won: Winner) -> float:
    """What a comparison is worth to model a: a tie is half a win."""
    return {"a": 1.0, "tie": 0.5, "b": 0.0}[won]


def _share(values: Sequence[tuple[float, str]]) -> Json:
    return intervals.share([value for value, _ in values], [cluster for _, cluster in values]).as_json()


def readable(asked: Sequence[Judgement], heard: Heard) -> Json:
    """How many verdicts were asked for, how many could not be read, and how many requests failed; the first of each."""
    ids = list(dict.fromkeys(one.id for one in asked))
    unread = [id_ for id_ in ids if id_ in heard.said and heard.said[id_]["verdict"] is None]
    failed = [id_ for id_ in ids if id_ in heard.failed]
    found: Json = {"asked": len(ids), "unreadable": len(unread), "failed": len(failed)}
    if unread and "answer" in heard.said[unread[0]]:
        found["first_unreadable"] = heard.said[unread[0]]["answer"][:200]
    if failed:
        found["first_failure"] = heard.failed[failed[0]]
    return found


def order_effects(pairs: Sequence[tuple[Judgement, Judgement]], heard: Heard) -> Json:
    """What the order of two answers does to a judge.

    `order_agreement`: how often it says the same in either order; `says_first`: of the verdicts that name a winner, how
    many name the answer that it saw first (0.5 where order does nothing).
    """
    read = [
        (one, other, forwards.cluster)
        for forwards, backwards in pairs
        if (one := heard.verdict(forwards)) is not None and (other := heard.verdict(backwards)) is not None
    ]
    agree = [(float(orders_agree(one, other)), cluster) for one, other, cluster in read]
    first = [(float(said == "A"), cluster) for one, other, cluster in read for said in (one, other) if said != "tie"]
    return {"order_agreement": _share(agree) if agree else None, "says_first": _share(first) if first else None}


def against_people(pairs: Sequence[JudgedPair], heard: Heard) -> Json:
    """A judge beside people's votes on the same pairs, with what order does to it there."""
    verdicts = on_pairs(pairs, heard)
    asked = [pair.asked() for pair in pairs]
    return {
        **agreement.with_people(pairs, verdicts),
        "of": agreement.among_people(pairs),
        **readable([one for both in asked for one in both], heard),
        **order_effects(asked, heard),
    }


def on_pairs(pairs: Sequence[JudgedPair], heard: Heard) -> dict[str, Winner | None]:
    """The judge's verdict on each pair, after both orders."""
    return {
        pair.id: both_orders(*(heard.verdict(one) for one in pair.asked()))
        for pair in pairs
    }  # fmt: skip


def _records(label: str, docket: _Docket, heard: Heard) -> list[Json]:
    """What `judgements.jsonl` holds of one judge: a line a verdict."""
    records = [
        {"judge": label, "kind": "rubric", "task": one.task, "id": one.answer.id, "model": one.model}
        | heard.record(one.asked)
        for one in docket.grades
    ]
    for duel in docket.duels:
        for first, second, asked in ((duel.a, duel.b, duel.forwards), (duel.b, duel.a, duel.backwards)):
            head = {"judge": label, "kind": "pairwise", "task": duel.task, "id": duel.answer.id}
            records.append({**head, "first": first, "second": second, **heard.record(asked)})
    return records


def _into_answers(models: Sequence[Row], docket: _Docket, heard: Heard) -> None:
    """Gives each answer its grade, and its share of wins over the other models' answers to the same item."""
    measures: dict[tuple[str, str, str], dict[str, float]] = {}
    for grade in docket.grades:
        if (verdict := heard.verdict(grade.asked)) is not None:
            measures.setdefault((grade.model, grade.task, grade.answer.id), {})["judged"] = float(verdict)
    won: dict[tuple[str, str, str], list[float]] = {}
    for duel in docket.duels:
        if (winner := _winner(duel, heard)) is not None:
            won.setdefault((duel.a, duel.task, duel.answer.id), []).append(_worth(winner))
            won.setdefault((duel.b, duel.task, duel.answer.id), []).append(1 - _worth(winner))
    for key, worths in won.items():
        measures.setdefault(key, {})["win_rate"] = sum(worths) / len(worths)
    for row in models:
        for name, result in row.shared.results.items():
            outcomes = tuple(
                replace(one, measures={**one.measures, **own}, record={**one.record, **own})
                if (own := measures.get((row.label, name, one.id)))
                else one
                for one in result.outcomes
            )
            row.shared.results[name] = replace(result, outcomes=outcomes)


def same_judge(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two leaderboards' grades come from the same judge, asked in the same way; others cannot be compared."""
    firsts = [(board.get("judges") or [{}])[0] for board in (before, after)]
    one, other = ({key: first.get(key) for key in ("model", "precision", "way")} for first in firsts)
    return one == other
