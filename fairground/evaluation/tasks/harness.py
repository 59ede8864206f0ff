"""Tasks of lm-evaluation-harness: it makes the requests, few-shot prompts included, and judges what comes back.

Its metrics become our measures under our names where the two are the same (RENAMED), else under their own. A task with
several filters gives the first one's under the plain name, the others' as the harness spells them,
"exact_match,flexible-extract". What the harness does not average over documents (perplexity, F1, BLEU) is no measure of
one: its own aggregation gives the number for the whole task.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fairground.errors import CapabilityError, FairgroundError
from fairground.evaluation.tasks.base import Item, Outcome, ScoredTask, Task, WrittenTask
from fairground.evaluation.tasks.generation import written
from fairground.types import Completion, Request, Sampling, Score, ScoreRequest

Json = dict[str, Any]

SEEDS = (0, 1234)
"""What the harness seeds Python's and NumPy's random numbers with before it reads tasks, some of which shuffle."""
FEWSHOT_SEED = 1234
"""With which the harness draws solved examples where nothing else is said."""

RENAMED: Mapping[str, Mapping[str, str]] = {
    "multiple_choice": {"acc": "accuracy", "acc_norm": "accuracy_norm"},
    # `acc` here is whether every token of the target was the likeliest one.
    "loglikelihood": {"acc": "last_word"},
    "generate_until": {"exact_match": "exact_match"},
}
"""By output type, the harness's metrics that are measures of ours."""

COLUMNS = {
    "multiple_choice": {"acc": "accuracy", "acc_norm": "accuracy"},
    "loglikelihood": {"acc": "last_word"},
    "generate_until": {"exact_match": "exact_match"},
    "loglikelihood_rolling": {"bits_per_byte": "bits_per_byte"},
}
"""By output type and metric, the column that a task counts in."""

SAMPLING = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}
READ = {*SAMPLING, "until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens", "do_sample"}


@dataclass(slots=True, eq=False)
class Documents:
    """A task of the harness (`lm_eval.api.task.Task`) with its documents, and the requests that it makes of them.

    `own_shots` is the number of solved examples that the task shows where nobody says another; with `fixed` nobody can.
    """

    task: Any
    docs: list[Any]
    own_shots: int
    fixed: bool
    groups: tuple[Any, ...] = ()
    _made: dict[int, list[list[Any]]] = field(default_factory=dict)

    @property
    def output_type(self) -> str:
        return str(self.task.OUTPUT_TYPE)

    @property
    def filters(self) -> list[str]:
        return [filter_.name for filter_ in self.task._filters]

    @property
    def column(self) -> str | None:
        """The leaderboard's column that the task counts in."""
        known = COLUMNS.get(self.output_type, {})
        return next((known[metric] for metric in self.task.aggregation() if metric in known), None)

    @property
    def most_shots(self) -> int | None:
        """How many solved examples there are to show; None where the number cannot be chosen."""
        if self.fixed:
            return None
        if (sampler := getattr(self.task, "sampler", None)) is None:
            return len(self.docs) - 1
        # Where examples come from the documents themselves, the harness draws one more, to leave out the one asked.
        own = self.task.fewshot_cfg.split == self.task.config.test_split
        return max(0, len(sampler.df) - int(own))

    def shown(self, shots: int) -> int:
        """How many solved examples are really shown where `shots` are asked for."""
        return self.own_shots if self.fixed else shots

    def chance(self, doc: int) -> float | None:
        """What guessing gets on a document with choices."""
        if self.output_type != "multiple_choice" or not hasattr(self.task, "doc_to_choice"):
            return None
        right = _gold(self.task, self.docs[doc], None)
        return (len(right) if isinstance(right, list) else 1) / len(self.task.doc_to_choice(self.docs[doc]))

    def requests(self, doc: int, shots: int, count: int) -> list[Any]:
        """The `Instance`s that the harness makes of a document, where it is asked for the first `count`.

        Solved examples are drawn from one sequence of random numbers, document by document, so all are made at once.
        """
        shots = self.shown(shots)
        if len(self._made.get(shots, [])) <= doc:
            self._made[shots] = self._make(shots, max(count, doc + 1))
        return self._made[shots][doc]

    def _make(self, shots: int, count: int) -> list[list[Any]]:
        self.task.set_fewshot_seed(FEWSHOT_SEED)
        self.task.set_config("num_fewshot", shots)
        made = []
        for number, doc in enumerate(self.docs[:count]):
            try:
                context = self.task.fewshot_context(
                    doc,
                    num_fewshot=shots,
                    system_instruction=None,
                    apply_chat_template=False,
                    fewshot_as_multiturn=False,
                    chat_template=None,
                    gen_prefix=self.task.doc_to_prefix(doc),
                )
                asked = self.task.construct_requests(
                    doc=doc,
                    ctx=context,
                    metadata=(self.task.task_name, number, self.repeats),
                    apply_chat_template=False,
                    chat_template=None,
                )
            except Exception as error:
                raise FairgroundError(
                    f"The harness could not ask document {number} of {self.task.task_name} with {shots} solved "
                    f"examples ({type(error).__name__}: {error}); correct the task or leave it out."
                ) from error
            made.append(asked if isinstance(asked, list) else [asked])
        return made

    @property
    def repeats(self) -> int:
        """How often the harness asks the same."""
        return int(self.task.config.repeats or 1)

    def arguments(self, doc: int) -> tuple[Any, ...]:
        """What the harness asks of a document that is written about, after whatever number of examples was made."""
        made = next(made for made in self._made.values() if len(made) > doc)
        return tuple(made[doc][0].args)

    def judge(self, doc: int, arguments: Sequence[tuple[Any, ...]], answers: Sequence[Any]) -> tuple[Json, Json]:
        """Measures, and what is kept of the harness's judgement, after every filter.

        `answers` are what its LM would have returned for `arguments`.
        """
        from lm_eval.api.instance import Instance
        from lm_eval.utils import hash_string

        task, document = self.task, self.docs[doc]
        kind = "loglikelihood" if self.output_type == "multiple_choice" else self.output_type
        instances = [
            Instance(
                kind, document, asked, i, metadata=(task.task_name, doc, self.repeats), resps=[answer] * self.repeats
            )
            for i, (asked, answer) in enumerate(zip(arguments, answers, strict=True))
        ]
        measures: dict[str, float] = {}
        judged: Json = {}
        try:
            for place, filter_ in enumerate(task._filters):
                filter_.apply(instances)
                filtered = [instance.filtered_resps[filter_.name] for instance in instances]
                found = task.process_results(document, filtered)
                judged[filter_.name] = {"filtered_resps": plain(filtered), "metrics": plain(dict(found))}
                measures |= self._measures(found, "" if place == 0 else f",{filter_.name}")
            target = task.doc_to_target(document)
        except Exception as error:
            raise CapabilityError(
                f"The harness could not judge document {doc} of {task.task_name} ({type(error).__name__}: {error})."
            ) from error
        kept = {
            "target": plain(target),
            "filters": judged,
            "doc_id": doc,
            "doc": plain(document),
            "doc_hash": hash_string(_hashed(document)),
            "prompt_hash": hash_string(str(arguments[0][0])),
            "target_hash": hash_string(str(target)),
        }
        return measures, kept

    def _measures(self, found: Mapping[str, Any], suffix: str) -> dict[str, float]:
        """What of a document's metrics is averaged."""
        names = RENAMED.get(self.output_type, {})
        measures: dict[str, float] = {}
        for metric, value in found.items():
            if not self.averaged(metric):
                continue
            number = plain(value)
            if isinstance(number, bool | int | float):
                measures[names.get(metric, metric) + suffix] = float(number)
        if self.output_type == "loglikelihood_rolling" and "bits_per_byte" in found:
            logprob, size = found["bits_per_byte"]
            measures |= {f"bits{suffix}": -float(logprob) / math.log(2), f"bytes{suffix}": float(size)}
        return measures

    def averaged(self, metric: str) -> bool:
        """Whether the harness takes the mean over documents, as it does where a task says nothing."""
        from lm_eval.api.metrics import mean, nanmean

        return self.task.aggregation().get(metric, mean) in (mean, nanmean)

    def whole_task(self, outcomes: Sequence[Outcome]) -> tuple[dict[str, float], list[str]]:
        """The metrics that are no means, by the harness's own aggregation, and why one could not be computed."""
        found: dict[tuple[str, str], list[Any]] = {}
        for outcome in outcomes:
            for name, judged in outcome.record["harness"]["filters"].items():
                for metric, value in judged["metrics"].items():
                    if not self.averaged(metric) and value is not None:
                        found.setdefault((metric, name), []).append(value)
        numbers: dict[str, float] = {}
        failures = []
        for (metric, name), values in found.items():
            label = metric if name == self.filters[0] else f"{metric},{name}"
            try:
                number = float(self.task.aggregation()[metric](values))
            except Exception as error:
                failures.append(f"{self.task.task_name}: the harness could not aggregate {label} ({error}).")
                continue
            if math.isfinite(number):
                numbers[label] = number
            else:
                failures.append(f"{self.task.task_name}: {label} is not finite ({number}).")
        return numbers, failures


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessItem(Item):
    """The harness's document of this number."""

    doc: int


@dataclass(frozen=True, kw_only=True)
class HarnessTask(Task[HarnessItem]):
    """A task of the harness. `counts_in` are the columns that its answers may count in."""

    in_order: ClassVar[bool] = True
    counts_in: ClassVar[tuple[str, ...]]
    documents: Documents

    @property
    def max_shots(self) -> int | None:
        return self.documents.most_shots


@dataclass(frozen=True, kw_only=True)
class HarnessScored(HarnessTask, ScoredTask[HarnessItem]):
    """A task that the harness judges by log-likelihoods: `multiple_choice`, `loglikelihood`, `loglikelihood_rolling`.

    A text that is longer than the model's context is not read in windows, as the harness's `loglikelihood_rolling`
    does; it is a failure of its item. And where a tokenizer adds a start token by itself, the harness's `hf` model
    reads a rolling text after two of them and counts the second; here there is one.
    """

    kind: ClassVar[str] = "lm-eval scored"
    counts_in: ClassVar[tuple[str, ...]] = ("accuracy", "last_word", "bits_per_byte")

    def ask(self, item: HarnessItem, shots: int = 0) -> list[ScoreRequest]:
        instances = self.documents.requests(item.doc, shots, len(self.items))
        if self.documents.output_type == "loglikelihood_rolling":
            return [ScoreRequest("", *instance.args) for instance in instances]
        return [ScoreRequest(*instance.args) for instance in instances]

    def judge(self, item: HarnessItem, asked: Sequence[ScoreRequest], scores: Sequence[Score]) -> Outcome:
        logprobs = [score.logprob for score in scores]
        if self.documents.output_type == "loglikelihood_rolling":
            arguments: list[tuple[Any, ...]] = [(request.continuation,) for request in asked]
            answers: list[Any] = logprobs
        else:
            arguments = [(request.context, request.continuation) for request in asked]
            answers = [(score.logprob, score.greedy) for score in scores]
        measures, kept = self.documents.judge(item.doc, arguments, answers)
        record: Json = {"asked": asked[0].context or asked[0].continuation}
        several = len({request.context for request in asked}) > 1
        if self.documents.output_type == "multiple_choice":
            if several and len({request.continuation for request in asked}) == 1:
                record["asked"] = f"…{asked[0].continuation}"
                record["choices"] = [request.context for request in asked]
            else:
                # Others are the choices alone, for `acc_mutual_info`.
                record["choices"] = [r.continuation for r in asked if r.context == asked[0].context]
            record["chosen"] = max(range(len(record["choices"])), key=logprobs.__getitem__)
        record |= {"scores": logprobs, "greedy": [score.greedy for score in scores]}
        if several or "choices" not in record:
            record["arguments"] = [list(one) for one in arguments]
        gold = _gold(self.documents.task, self.documents.docs[item.doc], kept["target"])
        return _outcome(item, measures, {**record, "gold": gold}, kept)


@dataclass(frozen=True, kw_only=True)
class HarnessWritten(HarnessTask, WrittenTask[HarnessItem]):
    """A task of the harness that is answered in writing, `generate_until`; as it does by default, without a chat
    template.

    A prompt that is too long for the model is not cut at the left, as the harness does; it is a failure of its item.
    """

    kind: ClassVar[str] = "lm-eval written"
    counts_in: ClassVar[tuple[str, ...]] = ("exact_match",)

    def ask(self, item: HarnessItem, shots: int, chat: bool) -> Request:
        (instance,) = self.documents.requests(item.doc, shots, len(self.items))
        prompt, settings = instance.args
        return Request(prompt, sampling(settings, item.doc))

    def judge(self, item: HarnessItem, asked: Request, answer: Completion) -> Outcome:
        settings = plain(self.documents.arguments(item.doc)[1])
        measures, kept = self.documents.judge(item.doc, [(asked.prompt, settings)], [answer.text])
        first = kept["filters"][self.documents.filters[0]]["filtered_resps"][0]
        record = {**written(asked, answer), "found": first, "gold": kept["target"], "arguments": [[None, settings]]}
        return _outcome(item, measures, record, kept)


def sampling(settings: Mapping[str, Any], seed: int) -> Sampling:
    """The harness's generation settings as ours. Raises CapabilityError for one that we do not have."""
    from lm_eval.models.utils import normalize_gen_kwargs

    known = dict(normalize_gen_kwargs(dict(settings)))
    if extra := [key for key in settings if key not in READ and (key, settings[key]) != ("num_beams", 1)]:
        raise CapabilityError(f"it sets {extra[0]} to {settings[extra[0]]}, which Fairground's models do not do")
    greedy = not known["do_sample"]
    chosen = {key: known[key] for key in SAMPLING if key in known and not greedy}
    stop = tuple(text for text in known["until"] if text)
    return Sampling(**{"temperature": 0.0, **chosen}, max_tokens=known["max_gen_toks"], stop=stop, seed=seed)


def plain(value: Any) -> Any:
    """The value as it comes back from JSON, so that it is the same from the journal; what is not finite is None."""
    from lm_eval.utils import handle_non_serializable

    def listed(one: Any) -> Any:
        return one.tolist() if isinstance(one, np.ndarray) else handle_non_serializable(one)

    return _finite(json.loads(json.dumps(value, default=listed)))


def _hashed(document: Any) -> str:
    """What the harness takes the hash of."""
    from lm_eval.utils import handle_non_serializable

    return json.dumps(document, indent=2, default=handle_non_serializable, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gold(task: Any, doc: Any, target: Any) -> Any:
    """Which choice is right, by its index where there are choices; else the target."""
    if task.OUTPUT_TYPE != "multiple_choice" or not hasattr(task, "multiple_input"):
        return target
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    choices = task.doc_to_choice(doc)
    return choices.index(gold) if isinstance(gold, str) and gold in choices else plain(gold)


def _outcome(item: HarnessItem, measures: Mapping[str, float], record: Json, kept: Json) -> Outcome:
    for name in ("accuracy", "last_word", "exact_match"):
        if name in measures:
            record["right"] = measures[name] == 1
            break
    return Outcome(item.id, item.domain, item.cluster, measures, {**record, "harness": kept})
