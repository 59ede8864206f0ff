"""The tables of a suite.toml, each checked key by key as it is read."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairground.errors import SuiteError


@dataclass(frozen=True, slots=True)
class Settings:
    """One table of a suite.toml. `at` is its name ("tasks.quiz"; empty for the file's own keys)."""

    path: Path
    at: str
    data: dict[str, Any] = field(repr=False)
    source: str = field(repr=False, default="")

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The file's own keys. Raises SuiteError for a file that cannot be read or is not TOML."""
        try:
            source = path.read_text(encoding="utf-8")
            return cls(path, "", tomllib.loads(source), source)
        except OSError as error:
            raise SuiteError(f"{path} cannot be read ({error.strerror}); a suite's folder needs one.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SuiteError(f"{path} is not TOML: {error}; correct it.") from None

    def table(self, key: str) -> Settings:
        """A table within this one, empty where there is none."""
        value, at = self.data.get(key, {}), f"{self.at}.{key}" if self.at else key
        if not isinstance(value, dict):
            raise self.error(f"[{at}] must be a table; correct it", key)
        return Settings(self.path, at, value, self.source)

    def known(self, keys: set[str]) -> None:
        """Refuses a key that nothing reads."""
        if extra := sorted(self.data.keys() - keys):
            raise self.error(f"the key {extra[0]!r} is not known here (known: {', '.join(sorted(keys))})", extra[0])

    def text(self, key: str, default: str | None = None) -> str:
        if key not in self.data and default is not None:
            return default
        value = self.data.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{key!r} must be a string that is not empty; set it", key)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; none where the key is absent."""
        values = self.data.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            raise self.error(f"{key!r} must be a list of strings that are not empty; correct it", key)
        return tuple(values)

    def count(self, key: str, default: int, least: int = 1) -> int:
        value = self.data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(f"{key!r} must be a whole number of at least {least}; correct it", key)
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"{key!r} must be true or false; correct it", key)
        return value

    def one_of(self, key: str, known: Sequence[str], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in known:
            raise self.error(f"{key} is {value!r}; use {' or '.join(map(repr, known))}", key)
        return value

    def pattern(self, key: str, default: str | None = None) -> str:
        """A regular expression."""
        value = self.text(key, default)
        try:
            re.compile(value)
        except re.error as error:
            raise self.error(f"{key!r} is no regular expression ({error}); correct it", key) from None
        return value

    def template(self, key: str, default: str | None = None) -> tuple[str, tuple[str, ...]]:
        """A text with {fields}, and their names."""
        template = self.text(key, default)
        return template, self.fields(template, key)

    def fields(self, template: str, key: str) -> tuple[str, ...]:
        """The names of a template's {fields}, of which it must have one."""
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise self.error(f"{key} is no template ({error}); write fields as {{question}}", key) from None
        fields = [name for _, name, _, _ in parsed if name is not None]
        plain = all(name.isidentifier() for name in fields) and not any(spec or conv for _, _, spec, conv in parsed)
        if not fields or not plain:
            raise self.error(f"{key} must have fields of plain names, such as {{question}}; correct it", key)
        return tuple(dict.fromkeys(fields))

    def error(self, what: str, key: str | None = None) -> SuiteError:
        """tomllib keeps no positions, so the line is looked up: the key within its table, else the table's header."""
        here, header = "", 1
        for number, line in enumerate(self.source.splitlines(), start=1):
            if found := re.match(r"\s*\[([^\]]+)\]", line):
                here = found[1].strip()
                header = number if here == self.at or (not self.at and here.split(".")[0] == key) else header
            elif key is not None and here == self.at and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
                return SuiteError(f"{self.path}:{number}: {what}.")
        return SuiteError(f"{self.path}:{header}: {what}.")
