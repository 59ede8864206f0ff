"""Suites: a folder with `suite.toml` and JSON lines, read into frozen values after every line has been checked.

[tasks.NAME]
kind = "multiple_choice"                    # or "order", "open"
file = "items.jsonl"
shots = "items.jsonl"                       # solved examples; in the same file, ids with "-shot-" are the examples
prompt = "Question: {question}\\nAnswer:"    # its {fields} are the keys that each line must have
metric = "accuracy"                         # the leaderboard's column that its items count in; absent: in none
"""

from __future__ import annotations

import hashlib
import re
import string
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from fairground.errors import SuiteError
from fairground.evaluation import items
from fairground.evaluation.items import ChoiceItem, Line, OpenItem, Passage

BUILT_IN = Path(__file__).parent / "suites"
CHOICES_ONLY_PROMPT = "Answer:"


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """Questions answered by the choice that the model finds likeliest."""

    name: str
    prompt: str
    items: tuple[ChoiceItem, ...]
    shots: tuple[ChoiceItem, ...] = ()
    metric: str | None = None
    choices_only_prompt: str = CHOICES_ONLY_PROMPT

    @property
    def max_shots(self) -> int:
        """How many solved examples every item can be shown."""
        available = Counter(shot.group for shot in self.shots)
        return min(available[item.group] for item in self.items)


@dataclass(frozen=True, slots=True)
class OrderDiscrimination:
    """Passages that should be likelier than the same sentences in another order."""

    name: str
    difficulty: Literal["random", "swapped"]
    items: tuple[Passage, ...]
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class OpenAnswers:
    """Prompts answered freely. `text_prompt` and `stop` serve models that have no chat template."""

    name: str
    text_prompt: str
    items: tuple[OpenItem, ...]
    metric: str | None = None
    max_tokens: int = 64
    stop: tuple[str, ...] = ()


Task = MultipleChoice | OrderDiscrimination | OpenAnswers
TaskT = TypeVar("TaskT", MultipleChoice, OrderDiscrimination, OpenAnswers)

METRIC = {"multiple_choice": "accuracy", "order": "coherence", "open": "relevance"}
"""The leaderboard's column that a kind of task may count in."""

_KEYS = {
    "multiple_choice": {"shots", "prompt", "group", "choices_only_prompt"},
    "order": {"difficulty"},
    "open": {"text_prompt", "max_tokens", "stop"},
}


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """The response-time probe: lengths in tokens by the model's own count, one request at a time."""

    prompt_tokens: int = 128
    output_tokens: int = 64
    warmup: int = 1
    repeats: int = 6


@dataclass(frozen=True, slots=True)
class Suite:
    """What models are measured on. `hash` is the SHA-256 of suite.toml and every file that it names."""

    name: str
    version: str
    licence: str
    tasks: tuple[Task, ...]
    probe: ProbeSettings
    hash: str
    folder: Path
    description: str = ""

    def of(self, kind: type[TaskT]) -> list[TaskT]:
        """The tasks of one kind."""
        return [task for task in self.tasks if isinstance(task, kind)]

    @property
    def max_shots(self) -> int | None:
        """The most solved examples that every multiple-choice task can give; None where there is no such task."""
        return min((task.max_shots for task in self.of(MultipleChoice)), default=None)


def built_in_suites() -> list[str]:
    """The names of the suites in the package."""
    return sorted(path.parent.name for path in BUILT_IN.glob("*/suite.toml"))


def load_suite(name_or_path: str | Path) -> Suite:
    """Reads a suite of the package by name, or the user's own by the path of its folder.

    Raises SuiteError, naming file and line, for the first thing in it that is wrong.
    """
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
    """Reads one folder; keeps what must be compared across its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.toml = folder / "suite.toml"
        self.lines: dict[str, list[Line]] = {}
        self.owners: dict[str, str] = {}
        self.asked: dict[str, tuple[Line, str, str]] = {}
        try:
            self.source = self.toml.read_text(encoding="utf-8")
            self.data = tomllib.loads(self.source)
        except OSError as error:
            raise SuiteError(f"{self.toml} cannot be read ({error.strerror}); a suite's folder needs one.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SuiteError(f"{self.toml} is not TOML: {error}; correct it.") from None

    def suite(self) -> Suite:
        self._known(self.data, {"name", "version", "licence", "description", "tasks", "probe"}, "")
        name, version, licence = (self._text(self.data, key, "") for key in ("name", "version", "licence"))
        description = self._text(self.data, "description", "", default="")
        tables = self.data.get("tasks")
        if not isinstance(tables, dict) or not tables:
            raise self._error("there are no tasks; add a table [tasks.NAME]", "", "tasks")
        tasks = tuple(self._task(name, table) for name, table in tables.items())
        items.refuse_near_duplicates(list(self.asked.values()))
        return Suite(name, version, licence, tasks, self._probe(), self._hash(), self.folder, description)

    def _task(self, name: str, table: object) -> Task:
        at = f"tasks.{name}"
        if not isinstance(table, dict) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise self._error(f"[{at}] must be a table with a name of lower-case letters, digits and _; rename it", at)
        kind = self._text(table, "kind", at)
        if kind not in METRIC:
            known = ", ".join(METRIC)
            raise self._error(f"the task kind {kind!r} is unknown; use one of {known}", at, "kind")
        self._known(table, {"kind", "file", "metric"} | _KEYS[kind], at)
        metric = self._text(table, "metric", at, default="") or None
        if metric not in (None, METRIC[kind]):
            raise self._error(
                f"a task of kind {kind!r} counts in {METRIC[kind]!r} or in none, not {metric!r}", at, "metric"
            )
        lines = self._file(self._text(table, "file", at), at, "file")
        if kind == "multiple_choice":
            return self._multiple_choice(name, at, table, metric)
        if kind == "order":
            difficulty = self._text(table, "difficulty", at)
            if difficulty not in ("random", "swapped"):
                raise self._error(f"difficulty is {difficulty!r}; use 'random' or 'swapped'", at, "difficulty")
            passages = tuple(items.passage(line, task=name) for line in lines)
            self._remember(lines, [("", " ".join(passage.sentences)) for passage in passages])
            return OrderDiscrimination(name, "random" if difficulty == "random" else "swapped", passages, metric)
        prompts = tuple(items.open_item(line, task=name) for line in lines)
        self._remember(lines, [("", item.prompt) for item in prompts])
        text_prompt = self._text(table, "text_prompt", at, default="{prompt}")
        if self._fields(text_prompt, at, "text_prompt") != ["prompt"]:
            raise self._error("text_prompt must have the one field {prompt}; correct it", at, "text_prompt")
        return OpenAnswers(
            name, text_prompt, prompts, metric, self._count(table, "max_tokens", at, 64), self._texts(table, "stop", at)
        )

    def _multiple_choice(self, name: str, at: str, table: dict[str, Any], metric: str | None) -> MultipleChoice:
        prompt = self._text(table, "prompt", at)
        fields = self._fields(prompt, at, "prompt")
        if reserved := {"id", "choices", "gold", "note"} & set(fields):
            raise self._error(f"the prompt may not show {sorted(reserved)[0]!r}; use other fields", at, "prompt")
        group = self._text(table, "group", at, default="") or None
        file = self._text(table, "file", at)
        shots_file = self._text(table, "shots", at, default="") or None
        tests: list[ChoiceItem] = []
        shots: list[ChoiceItem] = []
        for source in dict.fromkeys([file, shots_file or file]):
            lines = self._file(source, at, "file" if source == file else "shots")
            read = [items.choice_item(line, fields=fields, group=group, task=name) for line in lines]
            self._remember(lines, [(f"{name} {item.group}", " ".join(item.fields.values())) for item in read])
            for line, item in zip(lines, read, strict=True):
                marked = items.SHOT in item.id
                if marked and shots_file != source:
                    raise line.error(
                        f"{item.id!r} is a solved example, but [{at}] takes none from here; set its 'shots'"
                    )
                (shots if marked or source != file else tests).append(item)
        if not tests:
            raise self._error(f"{file} has no test items, only solved examples; add items", at, "file")
        bare = self._text(table, "choices_only_prompt", at, default=CHOICES_ONLY_PROMPT)
        return MultipleChoice(name, prompt, tuple(tests), tuple(shots), metric, bare)

    def _file(self, name: str, at: str, key: str) -> list[Line]:
        """The lines of one of the suite's own files; an id may stand in one file only."""
        if name in self.lines:
            return self.lines[name]
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise self._error(f"{name!r} lies outside the suite's folder; move it inside", at, key)
        lines = items.read_lines(path)
        for line in lines:
            if line.id in self.owners:
                raise line.error(
                    f"the id {line.id!r} is already that of {self.owners[line.id]}; give each item its own"
                )
            self.owners[line.id] = line.where
        self.lines[name] = lines
        return lines

    def _remember(self, lines: list[Line], asked: list[tuple[str, str]]) -> None:
        """Keeps what each line asks, once also where two tasks read the same file."""
        self.asked.update({line.where: (line, *what) for line, what in zip(lines, asked, strict=True)})

    def _probe(self) -> ProbeSettings:
        table = self.data.get("probe", {})
        if not isinstance(table, dict):
            raise self._error("[probe] must be a table; correct it", "", "probe")
        default = ProbeSettings()
        self._known(table, {"prompt_tokens", "output_tokens", "warmup", "repeats"}, "probe")
        return ProbeSettings(
            self._count(table, "prompt_tokens", "probe", default.prompt_tokens),
            self._count(table, "output_tokens", "probe", default.output_tokens, least=2),
            self._count(table, "warmup", "probe", default.warmup, least=0),
            self._count(table, "repeats", "probe", default.repeats, least=2),
        )

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for name in ["suite.toml", *sorted(self.lines)]:
            content = (self.folder / name).read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def _fields(self, template: str, at: str, key: str) -> list[str]:
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self._error(f"{key} is no template ({error}); write fields as {{question}}", at, key) from None
        fields = [name for _, name, _, _ in parsed if name is not None]
        plain = all(name.isidentifier() for name in fields) and not any(spec or conv for _, _, spec, conv in parsed)
        if not fields or not plain:
            raise self._error(f"{key} must have fields of plain names, such as {{question}}; correct it", at, key)
        return list(dict.fromkeys(fields))

    def _known(self, table: dict[str, Any], known: set[str], at: str) -> None:
        if extra := sorted(table.keys() - known):
            raise self._error(
                f"the key {extra[0]!r} is not known here (known: {', '.join(sorted(known))})", at, extra[0]
            )

    def _text(self, table: dict[str, Any], key: str, at: str, default: str | None = None) -> str:
        if key not in table and default is not None:
            return default
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self._error(f"{key!r} must be a string that is not empty; set it", at, key)
        return value

    def _texts(self, table: dict[str, Any], key: str, at: str) -> tuple[str, ...]:
        values = table.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            raise self._error(f"{key!r} must be a list of strings that are not empty; correct it", at, key)
        return tuple(values)

    def _count(self, table: dict[str, Any], key: str, at: str, default: int, least: int = 1) -> int:
        value = table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._error(f"{key!r} must be a whole number of at least {least}; correct it", at, key)
        return value

    def _error(self, what: str, table: str, key: str | None = None) -> SuiteError:
        """tomllib keeps no positions, so the line is looked up: the key within its table, else the table's header."""
        here, header = "", 1
        for number, line in enumerate(self.source.splitlines(), start=1):
            if found := re.match(r"\s*\[([^\]]+)\]", line):
                here = found[1].strip()
                header = number if here == table or (not table and here.split(".")[0] == key) else header
            elif key is not None and here == table and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
                return SuiteError(f"{self.toml}:{number}: {what}.")
        return SuiteError(f"{self.toml}:{header}: {what}.")
