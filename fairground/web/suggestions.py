"""Prompts to begin with, by domain."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROMPTS = Path(__file__).with_name("prompts.toml")


@dataclass(frozen=True, slots=True)
class Domain:
    """What people ask about, and some prompts."""

    title: str
    prompts: tuple[str, ...]


@cache
def suggestions() -> tuple[Domain, ...]:
    """All of them, in the file's order."""
    found = tomllib.loads(PROMPTS.read_text(encoding="utf-8"))
    return tuple(Domain(one["title"], tuple(one["prompts"])) for one in found["domains"])
