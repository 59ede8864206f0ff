"""How much a stranger's template may make, worked out before it is made.

Nothing in Python can interrupt `'a' * 10**12` once it runs, so every operation whose result may be far larger than what
goes in has its result's size worked out here first. Sizes are in units: a character of text is one, an element of a
container eight. `limit` is the most that one value may have. All functions raise ExhaustedError or SecurityError.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, KeysView, Sequence, Sized, ValuesView
from typing import Any

from jinja2.exceptions import SecurityError

_LARGEST_INT = 4096  # bits; Python itself writes none of more than 14,000 out
_SLOW_TEXT = 100  # characters; where C loops take length times length
_WIDEST = 16  # columns of an indent

# What these do to HTML, to a screen's width or by chance no chat template needs, and each can make or take a lot.
NO_FILTERS = frozenset(
    ("batch", "slice", "wordwrap", "pprint", "urlize", "xmlattr", "striptags", "filesizeformat", "random")
)

# The methods of text that a template may call; `before_method` works out those that make more than they are given.
_TEXT_METHODS = frozenset(
    (
        "capitalize", "casefold", "center", "count", "endswith", "find", "index", "join", "ljust", "lower", "lstrip",
        "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit",
        "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill",
    )
)  # fmt: skip
# These search backwards, or for any of many characters.
_SLOW_METHODS = frozenset(("strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition"))

_CONTAINERS = (list, tuple, dict, set, frozenset, KeysView, ValuesView, ItemsView)


class ExhaustedError(Exception):
    """A template took more time or more memory than it is given."""


def size(value: Any, limit: int) -> int:
    """How large a value is if written out: what it holds twice counts twice."""
    total = 8
    if isinstance(value, str):
        total = len(value)
    elif isinstance(value, int):
        if value.bit_length() > _LARGEST_INT:
            raise ExhaustedError("it makes too large a number")
    elif isinstance(value, _CONTAINERS):
        total = 8 * len(value)
        for item in value.items() if isinstance(value, dict) else value:
            if total > limit:
                break
            total += size(item, limit)
    if total > limit:
        raise ExhaustedError("it makes too much")
    return total


def reserve(units: int, limit: int) -> None:
    """Refuses what would be larger than `limit`."""
    if units > limit:
        raise ExhaustedError("it makes too much")


def before_operator(operator: str, left: Any, right: Any, limit: int) -> None:
    """Before `left operator right`, for `*`, `**` and `%`; a sum is at most as large as both together."""
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(many, Sized) and isinstance(times, int):
                reserve(size(many, limit) * times, limit)
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _LARGEST_INT:
            raise ExhaustedError("it makes too large a number")
    elif operator == "%" and isinstance(left, str):
        before_format(left, "%", right, limit)


def before_format(text: str, mark: str, values: Any, limit: int) -> None:
    """Widths go up to 9999 and are not taken from arguments; any field may be as large as all that is given."""
    if re.search(r"\d{5}|%[-#0 +]*\*|\{[^{}]*\{", text):
        raise ExhaustedError("it formats too widely")
    reserve(text.count(mark) * (size(values, limit) + 10_000), limit)


def before_filter(name: str, value: Any, options: Sequence[Any], limit: int) -> None:
    """Before `value|name(*options)`."""
    numbers = [abs(option) for option in options if isinstance(option, int)]
    texts = [len(option) for option in options if isinstance(option, str)]
    if name == "replace":
        found = max((str(value).count(str(option)) for option in options), default=0)
        reserve((found + 1) * max(texts, default=0), limit)
    elif name == "join" and isinstance(value, Sized):
        items = len(value) * max(texts, default=0)
        reserve(items + size(value, limit), limit)
    elif name == "indent":
        reserve((str(value).count("\n") + 1) * max(*numbers, *texts, 4), limit)
    elif name == "center":
        reserve(max(numbers, default=0), limit)
    elif name == "format":
        before_format(str(value), "%", options, limit)
    elif name == "sum" and any(isinstance(option, (list, tuple)) for option in options):
        raise SecurityError("it adds lists up with the filter sum")
    elif (
        (name == "trim" and max(texts, default=0) > _SLOW_TEXT)
        or (name == "round" and max(numbers, default=0) > 300)
        or (name == "tojson" and (max(numbers, default=0) > _WIDEST or max(texts, default=0) > _WIDEST))
    ):
        raise ExhaustedError(f"it asks too much of the filter {name}")


def before_method(owner: Any, name: str, args: Sequence[Any], limit: int) -> None:
    """Before `owner.name(*args)`, where the method is one of Python's own."""
    if not isinstance(owner, (str, list, tuple, dict)):
        raise SecurityError(f"it calls {type(owner).__name__}.{name}")
    if not isinstance(owner, str):
        return
    if name not in _TEXT_METHODS and not name.startswith("is"):
        raise SecurityError(f"it calls str.{name}")
    if name in _SLOW_METHODS and any(isinstance(arg, str) and len(arg) > _SLOW_TEXT for arg in args):
        raise ExhaustedError(f"it asks too much of str.{name}")
    if name in ("center", "ljust", "rjust", "zfill"):
        reserve(max((arg for arg in args if isinstance(arg, int)), default=0), limit)
    elif name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        reserve((owner.count(args[0]) + 1) * len(args[1]), limit)
    elif name == "join" and args:
        if not isinstance(args[0], Sized):
            raise SecurityError("it joins what has no length")
        reserve(len(owner) * len(args[0]) + size(args[0], limit), limit)
