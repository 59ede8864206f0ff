"""The command line: parses, calls one public function, prints.

The only room that may import every other. What needs torch is imported where it is used, so that rating votes and
ranking remote models work without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from fairground.cli import (
    adapters,
    advise,
    arena,
    audit,
    bench,
    improve,
    judge,
    leaderboard,
    models,
    rank,
    rate,
    refine,
    runs,
    serve,
    suites,
    talk,
    up,
)
from fairground.cli.app import app
from fairground.errors import FairgroundError

__all__ = [
    "adapters",
    "advise",
    "app",
    "arena",
    "audit",
    "bench",
    "improve",
    "judge",
    "leaderboard",
    "main",
    "models",
    "rank",
    "rate",
    "refine",
    "runs",
    "serve",
    "suites",
    "talk",
    "up",
]


def main(run: Callable[[], None] = app) -> None:
    """The entry point: an error that is meant for people is one sentence and exit status 2."""
    try:
        run()
    except FairgroundError as error:
        # A message may quote a stranger's file: what would move the cursor or break the line is spelt out.
        sentence = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        print(f"fairground: {sentence}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
