"""Markdown as people and models write it, as HTML that a browser may show: read by markdown-it-py, cleaned by nh3."""

from __future__ import annotations

import nh3
from markdown_it import MarkdownIt

# HTML inside the text is shown as text; images would fetch from elsewhere, so their addresses are shown as links.
_reader = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}).enable(["table", "strikethrough"])
_reader.disable("image")
TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "blockquote", "ul", "ol", "li", "code",
    "pre", "table", "thead", "tbody", "tr", "th", "td", "a",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}}


def as_html(text: str) -> str:
    """The text's HTML: no script, style, frame, form, image or address other than http, https and mailto."""
    return nh3.clean(
        _reader.render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        attribute_filter=lambda tag, name, value: (
            None if (tag, name) == ("code", "class") and not value.startswith("language-") else value
        ),
    )
