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


def table(heads: Sequence[str], rows: Iterable[str], named: str, kind: str) -> str:
    """A table within a part of the page that scrolls sideways by itself and can be reached by keyboard.

    `heads` and `rows` are HTML; `named` is the id of the heading that names it; `kind` is the table's class.
    """
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f'<div class="scroll" role="group" tabindex="0" aria-labelledby="{named}"><table class="{kind}">'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
