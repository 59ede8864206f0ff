"""Personal data taken out of a text, with all the rest of it left as it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairground.evaluation.personal_data import personal_data, redacted

pytest.importorskip("presidio_analyzer", reason="needs presidio: pip install 'fairground[privacy]'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (
            "Write to ann@example.org or bob@example.com, please.",
            "Write to <EMAIL_ADDRESS> or <EMAIL_ADDRESS>, please.",
        ),
        ("ann@example.org", "<EMAIL_ADDRESS>"),
        ("From 203.0.113.7:\nGrüße, 東京", "From <IP_ADDRESS>:\nGrüße, 東京"),
        ("Card 4111 1111 1111 1111.", "Card <CREDIT_CARD>."),
        ("IBAN DE89370400440532013000!", "IBAN <IBAN_CODE>!"),
        ("2 + 2 = 4, and 2026 was a year.", "2 + 2 = 4, and 2026 was a year."),
    ],
)
def test_known_forms_are_replaced(text: str, expected: str) -> None:
    assert redacted(text) == expected


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="abc \n.é"), st.text(alphabet="abc \n.é"))
def test_what_stands_around_is_left_and_again_changes_nothing(before: str, after: str) -> None:
    made = redacted(f"{before} ann@example.org {after}")
    assert made == f"{before} <EMAIL_ADDRESS> {after}"
    assert redacted(made) == made
    assert personal_data(made) == set()
