"""The loop, whole: a community's votes make a real model better, and tossed coins do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairground.loop.audit import audit
from fairground.store import default_database, open_database

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

from closed_loop import liking, prompts, words_per_sentence  # noqa: E402


def test_what_the_community_likes_is_what_its_rule_says() -> None:
    assert words_per_sentence("One two three. Four five six seven? Eight") == pytest.approx(8 / 3)
    assert words_per_sentence("It costs 3.5 pounds") == 4
    eight = "This is a sentence of just eight words."
    assert liking(eight) == 0 == liking(f"{eight} {eight}")
    assert liking("Yes.") < liking("Yes, of course it is.") < liking(eight)
    assert liking(f"{eight[:-1]} and {eight}") < liking(eight)
    assert liking("") < liking("Yes.")


def test_what_was_voted_on_is_never_asked_again() -> None:
    voted, asked = prompts(200, 120, 0)
    assert not set(voted) & set(asked)
    assert (len(set(voted)), len(set(asked))) == (200, 120)


@pytest.mark.verify
def test_both_verdicts_are_right(tmp_path: Path) -> None:
    out = tmp_path / "loop"
    command = [sys.executable, str(ROOT / "experiments" / "closed_loop.py"), "--out", str(out)]
    small = ["--prompts", "140", "--held-out", "80", "--threads", "1"]
    environment = {**os.environ, "FAIRGROUND_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *small], env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, last = done.stdout.splitlines()
    assert first.endswith(": better.")
    assert second.endswith(": no improvement shown.")
    assert last.startswith("Both verdicts are right")
    told = {which: json.loads((out / which / "verdict.json").read_text()) for which in ("preferences", "chance")}
    assert told["preferences"]["low"] > 0.5
    assert told["chance"]["low"] < 0.5 < told["chance"]["high"]
    for which in told:
        with open_database(default_database(out / which)) as database:
            found = audit(database, folders={"commons-llama-4m-improved": out / which / "commons-llama-4m-improved"})
        assert (found.broken, found.changed, found.votes, found.steps) == (None, (), 220, 3)
