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
    """The text's HTML: no script, style, frame, form, image or address other than http, https and mailto.

    Its headings stand below a page's second level and skip none, whatever the text does, as screen readers want it.
    """
    tokens = _reader.parse(text)
    above = 2
    for at, opening in enumerate(tokens):
        if opening.type == "heading_open":
            above = min(int(opening.tag[1]) + 2, above + 1, 6)
            opening.tag = tokens[at + 2].tag = f"h{above}"
    return nh3.clean(
        _reader.renderer.render(tokens, _reader.options, {}),
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        set_tag_attribute_values={"pre": {"tabindex": "0"}},  # what may scroll is reached by keyboard
        link_rel="noopener noreferrer nofollow",
        attribute_filter=lambda tag, name, value: (
            None if (tag, name) == ("code", "class") and not value.startswith("language-") else value
        ),
    )
