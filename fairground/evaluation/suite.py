"""Suites: a folder with `suite.toml` and its data, read into frozen values after every line has been checked.

[tasks.NAME]
kind = "multiple_choice"                    # one of fairground.evaluation.tasks.KINDS
file = "items.jsonl"
shots = "items.jsonl"                       # solved examples; in the same file, ids with "-shot-" are the examples
prompt = "Question: {question}\\nAnswer:"    # its {fields} are the keys that each line must have
metric = "accuracy"                         # the leaderboard's column that its items count in; absent: in none
foreign = true                              # the file is others': lines need no id and may hold what nobody reads

[tasks.NAME.generated]                      # in place of file and shots: problems made from a seed, see procedural.py

Above its tables, shots_by = "first" (or "random", the default, "balanced", "nearest") says how examples are drawn.

[probe]                                     # response time; what is left out is as in ProbeSettings
concurrencies = [1, 8]                      # requests in flight at a time
goodput = "ttft=500,tpot=50"                # milliseconds that a good request keeps to
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from fairground.errors import RequestError, SuiteError
from fairground.evaluation.lines import Line, read_foreign, read_lines
from fairground.evaluation.near_duplicates import refuse_near_duplicates
from fairground.evaluation.procedural import Generated
from fairground.evaluation.response_times import Goodput
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks import KINDS, Task
from fairground.evaluation.tasks.few_shot import AT_RANDOM, SELECTIONS, FewShotTask, Selection, no_examples

BUILT_IN = Path(__file__).parent / "suites"
DATA = "FAIRGROUND_DATA"
"""The environment variable that names the folder in which a suite's `data:` files lie."""

LM_EVAL = "lm-eval:"
"""What the names of lm-evaluation-harness's tasks begin with."""

TaskT = TypeVar("TaskT", bound="Task[Any]")


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """The response-time probe: lengths in tokens by the model's own count, and how many requests in flight at a time.

    Alone, `repeats` requests are measured; at a higher concurrency, `waves` times as many as are in flight. `warmup`
    ones for each in flight come before and are not measured. `goodput`: what a good request keeps to; None: not asked.
    """

    prompt_tokens: int = 128
    output_tokens: int = 64
    warmup: int = 1
    repeats: int = 6
    concurrencies: tuple[int, ...] = (1,)
    waves: int = 3
    goodput: Goodput | None = None

    def requests(self, concurrency: int) -> int:
        """How many requests are measured at this concurrency."""
        return self.repeats if concurrency == 1 else self.waves * concurrency

    def warmup_requests(self, concurrency: int) -> int:
        """How many come before them."""
        return self.warmup * concurrency

    @property
    def total(self) -> int:
        """All requests that a model is asked."""
        return sum(self.requests(each) + self.warmup_requests(each) for each in self.concurrencies)


@dataclass(frozen=True, slots=True)
class Suite:
    """What models are measured on. `hash`: the SHA-256 of suite.toml, every file it names and all that it generates.

    `selection` is how solved examples are drawn in all of its tasks; `drawn` gives the suite with another.
    """

    name: str
    version: str
    licence: str
    tasks: tuple[Task[Any], ...]
    probe: ProbeSettings
    hash: str
    folder: Path
    description: str = ""
    selection: Selection = AT_RANDOM

    def of(self, kind: type[TaskT]) -> list[TaskT]:
        """The tasks of one kind."""
        return [task for task in self.tasks if isinstance(task, kind)]

    @property
    def max_shots(self) -> int:
        """The most solved examples that every task with any can give; 0 where there is no such task."""
        return min((most for task in self.tasks if (most := task.max_shots) is not None), default=0)


def built_in_suites() -> list[str]:
    """The names of the suites in the package."""
    return sorted(path.parent.name for path in BUILT_IN.glob("*/suite.toml"))


def described() -> list[tuple[str, str, str]]:
    """Name, description and licence of every suite in the package, without reading its data."""
    tops = [(name, Settings.read(BUILT_IN / name / "suite.toml")) for name in built_in_suites()]
    return [(name, top.text("description", ""), top.text("licence")) for name, top in tops]


def load_suite(name_or_path: str | Path, *, include_path: Path | None = None, own_shots: bool = True) -> Suite:
    """Reads a suite of the package by name, the user's own by the path of its folder, or "lm-eval:TASK,TASK".

    `include_path` and `own_shots` are for the last of these, see `load_lm_eval`. Raises SuiteError, naming file and
    line, for the first thing in it that is wrong, and RequestError for an `include_path` that nothing would read.
    """
    if str(name_or_path).startswith(LM_EVAL):
        from fairground.evaluation.lm_eval_suite import load_lm_eval

        return load_lm_eval(str(name_or_path), include_path=include_path, own_shots=own_shots)
    if include_path is not None:
        raise RequestError(f"--include-path is for tasks of the harness; name them with --suite {LM_EVAL}TASK,TASK.")
    if str(name_or_path) in built_in_suites():
        return _Reader(BUILT_IN / str(name_or_path)).suite()
    folder = Path(name_or_path)
    if not folder.is_dir():
        raise SuiteError(
            f"There is no suite {str(name_or_path)!r}: it is neither in the package (which has "
            f"{', '.join(built_in_suites())}) nor a folder; name one of these."
        )
    return _Reader(folder).suite()


class _Reader:
    """Reads one folder; keeps what must be compared across its files. Fulfils tasks.base.Files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.top = Settings.read(folder / "suite.toml")
        self.read: dict[tuple[str, str], list[Line]] = {}
        self.paths: dict[str, Path] = {}
        self.owners: dict[str, str] = {}
        self.asked: dict[str, tuple[Line, str, str]] = {}
        self.generated: dict[str, Generated] = {}

    def suite(self) -> Suite:
        self.top.known({"name", "version", "licence", "description", "shots_by", "tasks", "probe"})
        name, version, licence = (self.top.text(key) for key in ("name", "version", "licence"))
        tables = self.top.data.get("tasks")
        if not isinstance(tables, dict) or not tables:
            raise self.top.error("there are no tasks; add a table [tasks.NAME]", "tasks")
        tasks = tuple(self._task(name, self.top.table("tasks")) for name in tables)
        refuse_near_duplicates(list(self.asked.values()))
        description = self.top.text("description", "")
        suite = Suite(name, version, licence, tasks, self._probe(), self._hash(), self.folder, description)
        return drawn(suite, Selection(self.top.one_of("shots_by", SELECTIONS, AT_RANDOM.by)))

    def _task(self, name: str, tables: Settings) -> Task[Any]:
        if not isinstance(tables.data[name], dict) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            at = Settings(tables.path, f"tasks.{name}", {}, tables.source)
            raise at.error(f"[tasks.{name}] must be a table with a name of lower-case letters, digits and _; rename it")
        settings = tables.table(name)
        kind = settings.text("kind")
        if kind not in KINDS:
            raise settings.error(f"the task kind {kind!r} is unknown; use one of {', '.join(KINDS)}", "kind")
        made = KINDS[kind]
        settings.known({"kind", "file", "metric", "foreign", "columns", "generated"} | made.keys)
        if "generated" in settings.data:
            settings = self._generate(name, settings)
        metric = settings.text("metric", "") or None
        if metric is not None and metric not in made.counts_in:
            known = " or ".join(map(repr, made.counts_in))
            raise settings.error(f"a task of kind {kind!r} counts in {known} or in none, not {metric!r}", "metric")
        task: Task[Any] = made.read(name, settings, self, metric)
        if not task.items:
            raise settings.error("the task has no items; give it some", "file")
        if isinstance(task, FewShotTask) and "shots" in settings.data and not task.shots:
            raise no_examples(settings)
        return task

    def _generate(self, name: str, settings: Settings) -> Settings:
        """The task's settings with the problems that its table asks for in place of files."""
        if also := {"file", "shots", "foreign", "columns"} & settings.data.keys():
            raise settings.error(f"a generated task has no {sorted(also)[0]!r}; remove one of both", sorted(also)[0])
        made = self.generated[settings.at] = Generated.read(name, settings.table("generated"))
        names = {"file": "generated items", **({"shots": "generated examples"} if made.shots else {})}
        return Settings(settings.path, settings.at, {**settings.data, **names}, settings.source)

    def lines(self, settings: Settings, key: str) -> list[Line]:
        """The lines of one of the suite's own files, of a data set that others made, or generated ones."""
        if settings.at in self.generated:
            return self.generated[settings.at].shots if key == "shots" else self.generated[settings.at].items
        name, foreign = settings.text(key), settings.flag("foreign")
        # A line of others' is named by the task that reads it, so each task has its own.
        known = (name, f"{settings.at}.{key}" if foreign else "")
        if known in self.read:
            return self.read[known]
        path = self._path(name, settings, key)
        prefix = settings.at.removeprefix("tasks.") + ("" if key == "file" else f"-{key}")
        lines = read_foreign(path, prefix, settings.texts("columns")) if foreign else read_lines(path)
        for line in lines:
            if line.id in self.owners:
                raise line.error(
                    f"the id {line.id!r} is already that of {self.owners[line.id]}; give each item its own"
                )
            self.owners[line.id] = line.where
        self.read[known], self.paths[name] = lines, path
        return lines

    def asks(self, line: Line, group: str, text: str) -> None:
        """Keeps what each line asks, once also where two tasks read the same file. Others may repeat themselves."""
        if not line.foreign:
            self.asked[line.where] = (line, group, text)

    def _path(self, name: str, settings: Settings, key: str) -> Path:
        if name.startswith("data:"):
            folder = os.environ.get(DATA)
            if not folder:
                raise settings.error(
                    f"{name!r} is not in the package; set {DATA} to the folder where it lies (its licence and where to "
                    "get it stand in the suite.toml)", key
                )  # fmt: skip
            return Path(folder) / name.removeprefix("data:")
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise settings.error(f"{name!r} lies outside the suite's folder; move it inside", key)
        return path

    def _probe(self) -> ProbeSettings:
        table = self.top.table("probe")
        default = ProbeSettings()
        table.known({"prompt_tokens", "output_tokens", "warmup", "repeats", "concurrencies", "waves", "goodput"})
        return ProbeSettings(
            table.count("prompt_tokens", default.prompt_tokens),
            table.count("output_tokens", default.output_tokens, least=2),
            table.count("warmup", default.warmup, least=0),
            table.count("repeats", default.repeats, least=2),
            _concurrencies(table, default.concurrencies),
            table.count("waves", default.waves),
            _goodput(table),
        )

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for name, path in [("suite.toml", self.folder / "suite.toml"), *sorted(self.paths.items())]:
            content = path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
        for at, made in self.generated.items():
            content = json.dumps([dict(line.data) for line in made.items + made.shots]).encode()
            digest.update(f"{at} {len(content)}\n".encode() + content)
        return digest.hexdigest()


def _concurrencies(table: Settings, default: tuple[int, ...]) -> tuple[int, ...]:
    values = table.data.get("concurrencies", list(default))
    whole = isinstance(values, list) and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in values)
    if not whole or sorted(set(values)) != values or values[:1] != [1]:
        raise table.error(
            "'concurrencies' must be rising whole numbers, the first of them 1, such as [1, 8]; correct it",
            "concurrencies",
        )
    return tuple(values)


def _goodput(table: Settings) -> Goodput | None:
    if "goodput" not in table.data:
        return None
    try:
        return Goodput.parse(table.text("goodput"))
    except RequestError as error:
        raise table.error(str(error).removesuffix("."), "goodput") from None


def cut(suite: Suite, names: Sequence[str]) -> Suite:
    """The suite with these tasks alone. Raises SuiteError for a name that it does not have."""
    known = {task.name: task for task in suite.tasks}
    if unknown := [name for name in names if name not in known]:
        raise SuiteError(f"The suite {suite.name} has no task {unknown[0]!r}; it has {', '.join(known)}.")
    return replace(suite, tasks=tuple(known[name] for name in dict.fromkeys(names)))


def drawn(suite: Suite, selection: Selection) -> Suite:
    """The suite with its solved examples drawn so in every task."""
    tasks = (replace(task, selection=selection) if isinstance(task, FewShotTask) else task for task in suite.tasks)
    return replace(suite, tasks=tuple(tasks), selection=selection)
