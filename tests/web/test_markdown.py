"""Markdown as a browser may show it: what people write stays, what could do something goes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.web.markdown import TAGS, as_html


def test_what_models_write() -> None:
    html = as_html(
        "# One\n\n###### Six\n\nA **b** `c`\nline\n\n```python\nx = '<b>'\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n3. x"
    )
    for part in (
        "<h3>One</h3>", "<h4>Six</h4>", "<strong>b</strong>", "<br>", '<code class="language-python">',
        "x = '&lt;b&gt;'", "<td>1</td>", '<ol start="3">', '<pre tabindex="0">',
    ):  # fmt: skip
        assert part in html, part


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](JaVaScRiPt&#58;alert(1))",
        "<a href='javascript:alert(1)'>x</a>",
        "![x](https://evil.example/x.png)",
        '```a" onmouseover=alert(1) b\nx\n```',
        "<style>*{display:none}</style>",
        "<iframe src=//evil.example>",
        '[x](https://a.example "t" onclick=alert(1))',
    ],
)
def test_what_attackers_write(attack: str) -> None:
    _harmless(as_html(attack))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="<>\"'&;:()[]!`*#/\\= \njavscriptonerloimghfd", max_size=80))
def test_whatever_is_written(text: str) -> None:
    _harmless(as_html(text))


def _harmless(html: str) -> None:
    for tag, attributes in re.findall(r"<([a-z0-9]+)([^>]*)>", html):
        assert tag in TAGS
        for name, value in re.findall(r'\s([a-z-]+)="([^"]*)"', attributes):
            assert name in {"href", "title", "class", "start", "rel", "tabindex"}
            if name == "href":
                assert value.startswith(("http:", "https:", "mailto:")) or ":" not in value
            if name == "class":
                assert value.startswith("language-")
