"""What `rank` is told of its suite: which one, how many solved examples and which, and what a good request is."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fairground.cli.app import err
from fairground.errors import RequestError

if TYPE_CHECKING:
    from fairground.evaluation.suite import Suite
    from fairground.evaluation.tasks.few_shot import Selection


def numbers_of_shots(text: str) -> list[int]:
    """The numbers of examples that --shots names."""
    if not re.fullmatch(r"[0-9]{1,6}( *, *[0-9]{1,6})*", text.strip()):
        raise RequestError(
            f"--shots is {text!r}, but must be one number of examples or several with commas between, such as 0,1,5; "
            "correct it."
        )
    numbers = [int(part) for part in text.split(",")]
    if repeated := [number for at, number in enumerate(numbers) if number in numbers[:at]]:
        raise RequestError(f"--shots names {repeated[0]} twice in {text!r}; name each number once.")
    return numbers


def selection(by: str | None, seed: int | None, suites: Selection) -> Selection:
    """How examples are drawn: as the options say, else as the suite does."""
    from fairground.evaluation.tasks.few_shot import Selection

    drawn = Selection(by or suites.by, suites.seed if seed is None else seed)
    if seed is not None and not drawn.seeded:
        raise RequestError(
            f"Nothing is drawn by chance where examples are drawn by {drawn.by!r}, so --seed would mean nothing; "
            "leave it out, or give --shots-by random or balanced."
        )
    return drawn


def timed(suite: Suite, times: bool, target: str | None) -> Suite:
    """The suite with the goodput target that the command line gives, if it does; without `times` it measures none."""
    from fairground.evaluation.response_times import Goodput

    if not times:
        if target is not None:
            raise RequestError("--goodput needs response times, so it does not go with --no-times; leave one out.")
        return replace(suite, probe=replace(suite.probe, concurrencies=()))
    return suite if target is None else replace(suite, probe=replace(suite.probe, goodput=Goodput.parse(target)))


def suite_named(name: str, include_path: Path | None, own_shots: bool) -> Suite:
    """The suite. Where nobody gave a number of examples, the harness's tasks show as many as they say (`own_shots`)."""
    from fairground.evaluation.suite import LM_EVAL, load_suite

    with err.status("reading the harness's tasks") if name.startswith(LM_EVAL) else nullcontext():
        return load_suite(name, include_path=include_path, own_shots=own_shots)
