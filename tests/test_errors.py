"""The error tree that the docstring draws is the one there is."""

from __future__ import annotations

import inspect
import re

from fairground import errors


def test_the_docstring_draws_every_error_in_its_place() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+)(?:  |$)", line)
        if found and hasattr(errors, found.group(2)):
            drawn.append((len(found.group(1)) // 4, found.group(2)))
    parents: list[str] = []
    for depth, name in drawn:
        del parents[depth:]
        base = getattr(errors, name).__base__.__name__
        assert base == (parents[-1] if parents else "Exception"), name
        parents.append(name)
    public = [n for n, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)]
    assert sorted(name for _, name in drawn) == sorted(public)
