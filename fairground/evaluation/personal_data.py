"""Personal data in a text, found by the pattern recognisers of presidio, without any model or network.

They know the form of an e-mail address, a phone number, a payment card, an IBAN, an IP address, a US social security
number and a bitcoin address, with the check digits of those that have some. Names and addresses are not detected.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fairground.errors import CapabilityError

Hit = tuple[str, int, int]  # its kind, and where it begins and ends
Finder = Callable[[str], list[tuple[str, int, int, float]]]  # hits with presidio's certainty
LEAST_SCORE = 0.4  # presidio's own certainty; below lie bare numbers that may be anything


def personal_data(text: str) -> set[str]:
    """Which kinds of personal data the text holds, in presidio's words ("EMAIL_ADDRESS").

    Raises CapabilityError where presidio is not installed.
    """
    return {kind for kind, _, _ in _found(text)}


def redacted(text: str) -> str:
    """The text with each piece of personal data replaced by its kind ("<EMAIL_ADDRESS>").

    Where two overlap, the one that begins first stands for both. Raises CapabilityError where presidio is not
    installed.
    """
    parts: list[str] = []
    done = 0
    for kind, start, end in sorted(_found(text), key=lambda hit: (hit[1], -hit[2])):
        if start >= done:
            parts += [text[done:start], f"<{kind}>"]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def _found(text: str) -> list[Hit]:
    hits = (hit for find in _recognisers() for hit in find(text))
    return [(kind, start, end) for kind, start, end, score in hits if score >= LEAST_SCORE]


@cache
def _recognisers() -> list[Finder]:
    try:
        import tldextract
        from presidio_analyzer import predefined_recognizers as known
    except ImportError:
        raise CapabilityError(
            "Personal data is found by presidio, which is not installed; pip install 'fairground[privacy]'."
        ) from None
    # Its own would look for a newer list of domains on the web.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    made: list[Any] = [
        known.EmailRecognizer(),
        known.PhoneRecognizer(),
        known.CreditCardRecognizer(),
        known.IbanRecognizer(),
        known.IpRecognizer(),
        known.UsSsnRecognizer(),
        known.CryptoRecognizer(),
    ]

    def finder(one: Any) -> Finder:
        def find(text: str) -> list[tuple[str, int, int, float]]:
            hits = one.analyze(text, one.supported_entities) or ()
            return [(hit.entity_type, hit.start, hit.end, hit.score) for hit in hits]

        return find

    return [finder(one) for one in made]
