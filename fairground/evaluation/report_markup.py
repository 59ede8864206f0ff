"""What every part of the report writes with: escaped text, names that may break, tables that scroll by themselves."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from fairground.evaluation import columns as c


def text(shown: object) -> str:
    """Anything as escaped, printable HTML text."""
    return html.escape(c.printable(str(shown)))


def label(name: str) -> str:
    """A model's label that may break where its parts join, rather than anywhere."""
    return "<wbr>".join(text(part) for part in re.split("(?<=[,#@/:_-])", name))


def estimated(column: c.Column, found: c.Estimate) -> str:
    """A number with its interval beneath, as a cell holds it."""
    return f"{column.number(found.value)}<small>{column.interval(found)}</small>"


def row(head: str, cells: Iterable[str]) -> str:
    """A table's row, of HTML: what it is about, then its cells."""
    return f'<tr><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def table(heads: Sequence[str], rows: Iterable[str], *, by: str = "", label: str = "", kind: str = "") -> str:
    """A table within a part of the page that scrolls sideways by itself and can be reached by keyboard.

    `heads` and `rows` are HTML. It is named `by` the id of a heading, else by a `label`; `kind` is its class.
    """
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    named = f'aria-labelledby="{by}"' if by else f'aria-label="{text(label)}"'
    kind = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll" role="group" tabindex="0" {named}><table{kind}>'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
