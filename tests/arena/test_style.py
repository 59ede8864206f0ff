"""An answer's style is counted as CommonMark reads it (markdown-it-py), with LMSYS's design on top."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fairground.arena.style import difference, features, outside_code

COMMONMARK = MarkdownIt()


def counted_by_commonmark(text: str) -> tuple[int, int, int]:
    """Headings, list items and bold passages as markdown-it-py parses them."""
    tokens = COMMONMARK.parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return (
        sum(token.type == "heading_open" for token in tokens),
        sum(token.type == "list_item_open" for token in tokens),
        sum(token.type == "strong_open" for token in inline),
    )


@pytest.mark.parametrize(
    "text",
    [
        "# Title\n\n- one\n- two **bold**\n\n## Next\n\n1. first\n2. second\n",
        "Plain **bold** and __also bold__ but not snake__case__name.",
        "```python\n# no heading\n- no item\n**no bold**\n```\n\n### A heading\n",
        "~~~~\n# still code\n~~~\n# still code\n~~~~\n# heading",
        "```\n# an open fence reaches to the end\n",
        "#hashtag is none\n\n* item\n+ other list\n  - inner\n",
        "",
    ],
)
def test_markdown_is_counted_as_commonmark_reads_it(text: str) -> None:
    assert features(text)[1:] == counted_by_commonmark(text)


def test_on_real_answers_it_agrees_with_commonmark_and_with_a_tokenizer(shared: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    lines = (shared / "data" / "votes" / "llmfao_results.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["result"] for line in lines]
    same = np.array([np.equal(features(text)[1:], counted_by_commonmark(text)) for text in answers])
    assert (same.mean(axis=0) > 0.995).all(), same.mean(axis=0)

    gpt2 = tokenizers.Tokenizer.from_file(str(shared / "data" / "tokenizers" / "gpt2" / "tokenizer.json"))
    pairs = np.random.default_rng(0).integers(0, len(answers), (300, 2))
    ours, theirs = ([features(text)[0] for text in answers], [0] * len(answers))
    for index in np.unique(pairs):
        theirs[index] = len(gpt2.encode(answers[index]).ids)
    design = [[(n[i] - n[j]) / (n[i] + n[j] + 1) for i, j in pairs] for n in (ours, theirs)]
    assert np.corrcoef(design)[0, 1] > 0.95


def test_length_counts_words_marks_and_unspaced_characters() -> None:
    assert features("Hello, world!")[0] == 4
    assert features("写一首诗")[0] == 4
    assert features("naïve café 3.5")[0] == 5


@given(st.text(max_size=300), st.text(max_size=300))
def test_the_design_is_antisymmetric_and_inside_one(a: str, b: str) -> None:
    one, other = features(a), features(b)
    assert difference(one, other) == tuple(-value for value in difference(other, one))
    assert all(-1 < value < 1 for value in difference(one, other))
    assert difference(one, one) == (0, 0, 0, 0)
    assert len(outside_code(a)) <= len(a.splitlines())
