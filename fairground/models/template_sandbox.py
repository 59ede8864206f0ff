"""A jinja2 environment in which a stranger's template always ends, soon, and within a bounded memory.

jinja2's immutable sandbox keeps a template from Python's insides, but not from running for ever or from making a string
of a terabyte. Three more things hold here, and together they bound the work:

- no value grows beyond a limit (template_bounds.py): whatever makes a value (an operator, a filter, a call, a literal,
  a slice, a joined buffer) is measured, and beforehand where it could be far larger than what goes in;
- all values made in one rendering together stay below a multiple of that limit;
- every block, comparison, test, filter and call looks at the clock.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import BuiltinMethodType
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace

from fairground.models import template_bounds as bounds
from fairground.models.template_bounds import ExhaustedError

_TOTAL = 16  # how many times the limit all values of one rendering may have together
_COMPILING = 1 << 20  # the limit where nothing is being rendered: what the compiler works out beforehand


class RefusedError(jinja2.TemplateError):
    """The template itself refuses the conversation, by raise_exception."""


class _Budget:
    __slots__ = ("deadline", "limit", "room")

    def __init__(self, seconds: float, limit: int) -> None:
        self.deadline = time.perf_counter() + seconds
        self.limit = limit
        self.room = limit * _TOTAL


class _Counting(CodeGenerator):
    """Compiles a template so that whatever makes a value or takes time reports to the environment."""

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.tick()")
        super().blockvisit(nodes, frame)

    def _made(self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.made(")
        visit(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._made(super().visit_Tuple, node, frame)
        else:  # the target of an assignment
            super().visit_Tuple(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._made(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._made(super().visit_Dict, node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._made(super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self.write("(environment.tick() or ")  # a tick is None
        super().visit_Compare(node, frame)
        self.write(")")

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier, frame: Frame) -> None:
        self.fail("autoescape is for HTML, and chat templates do not have it", node.lineno)


class _Namespace(Namespace):
    """jinja2's namespace without dunder names, and with a text that does not show (and so repeat) what it holds."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as jinja2's, so that namespace(self=...) works
        values = dict(*args[1:], **kwargs)
        for name in values:
            _checked_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        Namespace.__setitem__(self, _checked_name(name), value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _checked_name(name: str) -> str:
    if name.startswith("_"):
        raise SecurityError(f"it stores {name!r} in a namespace")
    return name


class _Dict:
    """`dict` as Transformers gives it: to be called, not to be looked into."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` … `{% endgeneration %}`, which marks answers for training.

    It prints its body, between the environment's `marks` where those are asked for.
    """

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        if marks := getattr(self.environment, "marks", None):
            before, after = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in marks)
            body = [before, *body, after]
        return nodes.Scope(body, lineno=line)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Transformers' environment for chat templates, with the bounds above. May be used from several threads at once.

    `marks`: what is printed before and after everything that a template marks as generated.
    """

    code_generator_class = _Counting
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, marks: tuple[str, str] | None = None) -> None:
        self._running = threading.local()
        self.marks = marks
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # nothing is worked out before there is a budget for it
            extensions=[_Generation, jinja2.ext.loopcontrols],
            finalize=self._printed,
        )
        filters = {name: f for name, f in self.filters.items() if name not in bounds.NO_FILTERS}
        self.filters = {name: self._measured(name, f) for name, f in {**filters, "tojson": _to_json}.items()}
        self.tests = {name: self._timed(function) for name, function in TESTS.items()}
        del self.globals["lipsum"]
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "namespace": _Namespace,
            "dict": _Dict(),
        }

    @contextmanager
    def budget(self, seconds: float, limit: int) -> Iterator[None]:
        """What runs inside, on this thread, raises ExhaustedError after `seconds` or for a value beyond `limit`."""
        self._running.budget = _Budget(seconds, limit)
        try:
            yield
        finally:
            self._running.budget = None

    def tick(self) -> None:
        """Looks at the clock."""
        budget = self._budget
        if budget is not None and time.perf_counter() > budget.deadline:
            raise ExhaustedError("it takes too long")

    def made(self, value: Any) -> Any:
        """`value`, measured; an iterator becomes a list, since it cannot be measured otherwise."""
        self.tick()
        budget = self._budget
        limit = self._limit
        if hasattr(value, "__next__") and hasattr(value, "__iter__"):
            value = list(self._counted(value, limit))
        units = bounds.size(value, limit)
        if budget is not None:
            budget.room -= units
            if budget.room < 0:
                raise ExhaustedError("it makes too much in all")
        return value

    def concat(self, parts: Iterable[Any]) -> str:
        """The parts' texts joined: the buffer of a macro or of a set block, or the operands of `~`."""
        texts, length, limit = [], 0, self._limit
        for part in parts:
            text = self._printed(part)
            length += len(text)
            bounds.reserve(length, limit)
            texts.append(text)
        joined: str = self.made("".join(texts))
        return joined

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        bounds.before_operator(operator, left, right, self._limit)
        return self.made(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.tick()
        owner = getattr(function, "__self__", None)
        if isinstance(function, BuiltinMethodType) or isinstance(owner, str):  # markupsafe's text has Python methods
            bounds.before_method(owner, function.__name__, (*args, *kwargs.values()), self._limit)
        return self.made(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            bounds.before_format(value.__self__, "{", (args, kwargs), self._limit)
            return wrapped(*args, **kwargs)

        return checked

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        raise SecurityError(f"it reaches for {type(obj).__name__}.{attribute}")

    @property
    def _budget(self) -> _Budget | None:
        return getattr(self._running, "budget", None)

    @property
    def _limit(self) -> int:
        budget = self._budget
        return _COMPILING if budget is None else budget.limit

    def _printed(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        text: str = self.made(str(value))
        return text

    def _counted(self, values: Iterable[Any], limit: int) -> Iterator[Any]:
        total = 0
        for value in values:
            self.tick()
            total += 8 + bounds.size(value, limit)
            bounds.reserve(total, limit)
            yield value

    def _measured(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        own = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment or the context, put before the rest

        @functools.wraps(function)  # jinja2 reads `jinja_pass_arg` from this too
        def measured(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            if len(args) > own:
                bounds.before_filter(name, args[own], [*args[own + 1 :], *kwargs.values()], self._limit)
            return self.made(function(*args, **kwargs))

        return measured

    def _timed(self, function: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return function(*args, **kwargs)

        return timed


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Transformers' `tojson`: jinja2's own escapes HTML."""
    bounds.reserve(bounds.size(separators, 1 << 10), 64)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: Any) -> None:
    raise RefusedError(str(message))


def _strftime_now(form: str) -> str:
    bounds.reserve(len(form), 1000)
    return datetime.now().strftime(form)
