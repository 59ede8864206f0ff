"""Suites of lm-evaluation-harness's tasks, by their names: `lm-eval:hellaswag,arc_easy`.

Everything that the harness offers by name can be named: tasks, groups ("mmlu"), tags and patterns ("arc_*"), and with a
folder of YAML files (`include_path`) one's own. It fetches and keeps their data itself.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fairground.errors import CapabilityError, FairgroundError, MissingExtra, SuiteError
from fairground.evaluation.suite import LM_EVAL, ProbeSettings, Suite
from fairground.evaluation.tasks.harness import SEEDS, Documents, HarnessItem, HarnessScored, HarnessWritten, sampling


def load_lm_eval(names: str, *, include_path: Path | None = None, own_shots: bool = False) -> Suite:
    """The suite of the tasks that `names` names, with commas between.

    With `own_shots`, an entrant that is shown no solved examples is shown as many as each task itself says, as the
    harness does where no number is given; without, 0 means none. A task that says 0 is never shown any.

    Raises MissingExtra without the harness, and SuiteError for a task that is unknown, whose data cannot be had, or
    that asks what we cannot (images, running code, several answers to one document).
    """
    try:
        import datasets
        import lm_eval
    except ImportError as missing:
        raise MissingExtra(
            f"The harness's tasks need {missing.name}; install it with: pip install 'fairground[lm-eval]'"
        ) from None
    wanted = [name.strip() for name in names.removeprefix(LM_EVAL).split(",") if name.strip()]
    if not wanted:
        raise SuiteError(f"{names!r} names no task; write, for example, {LM_EVAL}hellaswag,arc_easy.")
    if include_path is not None and not include_path.is_dir():
        raise SuiteError(f"--include-path {include_path} is not a folder; name one with the tasks' YAML files.")
    with _quiet(datasets), _seeded():
        loaded = _from_index(wanted, include_path, alone=True) if include_path else None
        loaded = loaded or _from_index(wanted, include_path, alone=False)
        assert loaded is not None
        groups = tuple(loaded["groups"].values())
        read = [_documents(name, task, groups, own_shots) for name, task in loaded["tasks"].items()]
    digest = hashlib.sha256(json.dumps([lm_eval.__version__, own_shots]).encode())
    for documents in read:
        digest.update(_content(documents).encode())
    said = ", ".join(f"{one.task.task_name} ({one.own_shots}-shot)" for one in read)
    return Suite(
        name="lm-eval",
        version=lm_eval.__version__,
        licence="each data set's own",
        tasks=tuple(map(_task, read)),
        probe=ProbeSettings(),
        hash=digest.hexdigest(),
        folder=Path(),
        description=f"Tasks of lm-evaluation-harness{f', as they come: {said}' if own_shots else ''}",
    )


def _from_index(wanted: Sequence[str], include_path: Path | None, alone: bool) -> Any:
    """The tasks and groups of these names.

    Reading the names of the harness's own 14,000 tasks takes seconds, so what is one's own is first looked for `alone`;
    then None where something else is needed too.
    """
    from lm_eval.tasks import TaskManager

    try:
        manager = TaskManager(include_path=str(include_path) if include_path else None, include_defaults=not alone)
    except Exception as error:
        raise SuiteError(f"The harness cannot read its tasks ({_reason(error)}); correct them.") from error
    found = _matched(wanted, manager.all_tasks)
    if alone and not found:
        return None
    if not found:
        raise _unknown(wanted, manager.all_tasks, include_path)
    tasks: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for name in found:
        try:
            loaded = manager.load([name])
        except Exception as error:
            if alone and name not in manager.all_subtasks:
                return None  # a group of others' tasks
            # What fails differs by where the data are: no network, no such file, a package that the task needs.
            raise SuiteError(
                f"The task {name} cannot be had ({_reason(error)}); get its data or packages here first, with a "
                "network, or leave it out."
            ) from error
        tasks |= loaded["tasks"]
        groups |= loaded["groups"]
    return {"tasks": tasks, "groups": groups}


def _matched(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known names that the wanted ones are or match, in that order; none where one matches nothing."""
    from lm_eval.utils import pattern_match

    parts = [[name] if name in known else pattern_match([name], list(known)) for name in wanted]
    return list(dict.fromkeys(name for part in parts for name in part)) if all(parts) else []


def _unknown(wanted: Sequence[str], known: Sequence[str], include_path: Path | None) -> SuiteError:
    name = next(name for name in wanted if not _matched([name], known))
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists what there is."
    where = f" or {include_path}" if include_path else ""
    return SuiteError(f"lm-evaluation-harness{where} has no task {name!r}; {hint}")


def _documents(name: str, task: Any, groups: tuple[Any, ...], own_shots: bool) -> Documents:
    """Reads a task's documents, and refuses what cannot be asked or judged here."""
    said = task.get_config("num_fewshot")
    shots = int(said or 0)
    # Where the task says 0, the harness takes no other number either; a rolling text has no room for examples.
    fixed = own_shots or said == 0 or task.OUTPUT_TYPE == "loglikelihood_rolling"
    try:
        docs = list(task.eval_docs)
    except Exception as error:
        raise SuiteError(f"The task {name} gives no documents ({_reason(error)}); leave it out.") from error
    documents = Documents(task, docs, shots, fixed, groups)
    try:
        _check(documents)
    except CapabilityError as error:
        raise SuiteError(f"The task {name} cannot be run here: {error}; leave it out.") from None
    return documents


def _check(documents: Documents) -> None:
    task = documents.task
    if not documents.docs:
        raise CapabilityError("it has no documents")
    if getattr(task, "MULTIMODAL", False):
        raise CapabilityError("it shows images or plays sound, which Fairground's models do not take")
    if getattr(task, "UNSAFE_CODE", False):
        raise CapabilityError("it runs code that models write, which Fairground does not")
    try:
        asked = documents.requests(0, 0, 1)
    except FairgroundError as error:
        raise CapabilityError(str(error).rstrip(".")) from None
    kinds = {instance.request_type for instance in asked}
    if kinds == {"generate_until"} and len(asked) == 1:
        greedy = sampling(asked[0].args[1], 0).temperature == 0
        if documents.repeats > 1 and not greedy:
            raise CapabilityError(f"it wants {documents.repeats} answers to every question; here each is asked once")
    elif kinds not in ({"loglikelihood"}, {"loglikelihood_rolling"}):
        raise CapabilityError("it asks for several things about one document: " + ", ".join(sorted(kinds)))


def _task(documents: Documents) -> HarnessScored | HarnessWritten:
    name = documents.task.task_name
    items = tuple(
        HarnessItem(id=f"{name}-{i}", domain=name, cluster=f"{name}-{i}", doc=i) for i in range(len(documents.docs))
    )
    kind = HarnessWritten if documents.requests(0, 0, 1)[0].request_type == "generate_until" else HarnessScored
    column = documents.column
    return kind(name=name, items=items, metric=column if column in kind.counts_in else None, documents=documents)


def _content(documents: Documents) -> str:
    """What a task is made of: its configuration, functions as their source, and its data."""
    sampler = getattr(documents.task, "sampler", None)
    content = [documents.task.dump_config(), documents.docs, list(sampler.df) if sampler is not None else []]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_source).encode()).hexdigest()


def _source(value: Any) -> str:
    if callable(value):
        try:
            return inspect.getsource(value)
        except (OSError, TypeError):
            return getattr(value, "__qualname__", type(value).__qualname__)
    return str(value)


def _reason(error: BaseException) -> str:
    """One line of an error that others raised."""
    lines = str(error).split("\n")
    return f"{type(error).__name__}: {lines[0][:200]}".rstrip(".: ")


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without progress bars and what the harness and the hub's client log, which is for those who run them alone."""
    logs = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub")]
    levels = [log.level for log in logs]
    shown = not datasets.are_progress_bars_disabled()
    for log in logs:
        log.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def _seeded() -> Iterator[None]:
    """The random numbers that the harness begins with; afterwards those that were to come."""
    python, numbers = random.getstate(), np.random.get_state()
    random.seed(SEEDS[0])
    np.random.seed(SEEDS[1])
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
