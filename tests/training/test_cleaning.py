"""What is taken out is what was planted, and nothing else; books come out as running text."""

from __future__ import annotations

import random
import textwrap

import numpy as np
import pytest

from fairground.training.cleaning import LONG, Protected, Removed, decontaminate, deduplicate, flaw, words_of
from fairground.training.prose import BREAK, articles, paragraphs, passages, sentences, tidy, verses, whole_sentences
from fairground.training.text import Document
from fairground.types import Message

RNG = random.Random(1)
WORDS = [f"w{number}" for number in range(5_000)]


def words(count: int) -> str:
    return " ".join(RNG.choices(WORDS, k=count))


def document(text: str) -> Document:
    return Document(text, None, "here")


# Overlap with benchmarks


@pytest.mark.parametrize("place", [0, 40, 87])
def test_thirteen_planted_words_are_found_and_twelve_are_not(place: int) -> None:
    item = words(30).split()
    around = words(87).split()
    for count, kept in ((13, 0), (12, 1)):
        text = " ".join([*around[:place], *item[5 : 5 + count], *around[place:]])
        left, removed = decontaminate([document(text)], [" ".join(item)])
        assert len(left) == kept
        assert removed == Removed(1 - kept, 0, (1 - kept) * (87 + count))


def test_case_and_punctuation_hide_nothing() -> None:
    item = "The quick, brown fox didn't jump over it's well-known lazy dog; it walked home!"
    written = "Then THE QUICK brown fox - didn’t jump over\n\n(it's well known) _lazy_ dog. It walked home."
    assert decontaminate([document(written)], [item])[0] == []


def test_a_short_item_is_protected_whole() -> None:
    eight, seven = words(8), words(7)
    texts = [document(f"{words(20)} {eight} {words(20)}"), document(f"{words(20)} {seven} {words(20)}")]
    assert decontaminate(texts, [eight, seven])[0] == texts[1:]
    assert decontaminate([document(" ".join(eight.split()[:7]))], [eight])[1].documents == 0


def test_a_long_text_loses_the_paragraph_and_keeps_the_rest() -> None:
    item = words(20)
    before, after = (f"{words(LONG // 2)}\n\n{words(50)}" for _ in "ab")
    left, removed = decontaminate([document(f"{before}\n\n{words(5)} {item}\n\n{after}")], [item])
    assert [piece.text for piece in left] == [before, after]
    assert removed == Removed(0, 1, 25)


def test_an_overlap_may_reach_over_two_paragraphs() -> None:
    item = words(14).split()
    text = "\n".join([words(LONG), " ".join(item[:7]), " ".join(item[7:]), words(100)])
    left, _ = decontaminate([document(text)], [" ".join(item)])
    assert len(left) == 2
    assert not set(item[:3]) & {word for piece in left for word in piece.text.split()[-3:]}


def test_a_conversation_that_asks_an_item_goes_however_short_it_is() -> None:
    def asked(question: str) -> Document:
        turns = (Message("user", f"{question} Answer in one sentence."), Message("assistant", "I think so."))
        return Document("\n\n".join(turn.content for turn in turns), turns, "here")

    texts = [asked("What is 8 plus 6?"), asked("What is 8 plus 7?")]
    assert decontaminate(texts, Protected(["What is 8 plus 6?", "so"])) == (texts[1:], Removed(1, 0, 12))


# The same thing twice


def test_what_was_said_before_goes_and_the_first_stays() -> None:
    first, other = words(200), words(200)
    nearly = " ".join([*first.split()[:150], *other.split()[:50]])
    hardly = " ".join([*first.split()[:60], *words(140).split()])
    texts = [document(t) for t in (first, other, first.upper() + "!", nearly, hardly, "Short.", "short", "")]
    left, removed = deduplicate(texts)
    assert [d.text for d in left] == [first, other, hardly, "Short.", ""]
    assert removed == Removed(3, 0, 401)


def test_deduplicating_agrees_with_sets_of_shingles() -> None:
    pool = [words(25) for _ in range(12)]
    texts = [document(" ".join(RNG.choices(pool, k=RNG.randint(1, 4)))) for _ in range(60)]
    seen: set[tuple[str, ...]] = set()
    expected = []
    for each in texts:
        split = each.text.split()
        shingles = {tuple(split[i : i + 13]) for i in range(len(split) - 12)}
        if len(shingles & seen) <= len(shingles) / 2:
            expected.append(each)
        seen |= shingles
    assert deduplicate(texts)[0] == expected
    assert 0 < len(expected) < len(texts)


def test_nothing_in_nothing_out() -> None:
    assert deduplicate([]) == ([], Removed(0, 0, 0))
    assert decontaminate([], []) == ([], Removed(0, 0, 0))
    assert decontaminate([document("A text."), document("")], [])[0] == [document("A text."), document("")]


def test_hashes_of_runs_do_not_depend_on_what_is_around() -> None:
    protected = Protected([words(40)])
    assert [len(runs) for runs in protected.runs.values()] == [28]
    assert next(iter(protected.runs.values())).dtype == np.uint64


# What a teacher wrote


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A cow eats grass.", None),
        ("\n .", "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I have no home.", "refusal"),
        ('"I\'m sorry," said the cow, and it was.', None),
        ("The answer is 鐘.", "strange characters"),
        ("The café costs £3 – “fine”.", None),
        ("He ran home. She sat down. He ran home! They ate. He ran home.", "repetition"),
        ("one two three four five " * 3, "repetition"),
    ],
)
def test_flaws(text: str, why: str | None) -> None:
    assert flaw(text) == why


def test_a_text_ends_with_a_whole_sentence() -> None:
    assert whole_sentences("He came. She said (quietly.) And th") == "He came. She said (quietly.)"
    assert whole_sentences('He came. "I will. You will') == "He came."
    assert whole_sentences("no end") == ""


# Books

PARAGRAPHS = [
    "It was a cold day in March, and the clocks of the little town, which were never right, were striking thirteen.",
    '"Who is there?" asked Mr. Hale.',
    '"Only the postman," said a voice from the half-open door, and somebody laughed in a farm-house far away.',
    "Nobody answered for a while. The fire, low since the morning, went out. Then they all began to speak at once, and "
    "nothing was understood.",
]


@pytest.mark.parametrize(("between", "width"), [("\n", 72), ("\n\n", 72), ("\n\n", 60), ("\n", 0), ("\n\n", 0)])
def test_paragraphs_are_whole_again(between: str, width: int) -> None:
    wrapped = [textwrap.fill(p, width, break_on_hyphens=False) if width else p for p in PARAGRAPHS * 8]
    text = between.join(["CHAPTER I", *wrapped, "CHAPTER II. THE END OF IT", *wrapped, "THE END"])
    found = paragraphs(text.replace("\n", "\r\n"))
    assert [p for p in found if p != BREAK] == PARAGRAPHS * 16
    assert found[len(PARAGRAPHS) * 8] == BREAK


def test_a_licence_and_marks_are_left_out() -> None:
    text = "\n\n".join(
        [
            "*** START OF THE PROJECT GUTENBERG EBOOK X ***",
            "[Illustration]",
            "It _was_ so--at “last.”",
            "12",
            "It  was.",
        ]
    )
    assert paragraphs(text + "\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n\nLicence.") == [
        'It was so - at "last."', BREAK, "It was.",
    ]  # fmt: skip


def test_lost_brackets_come_back() -> None:
    assert tidy("The fire  which was low  went out.", brackets_lost=True) == "The fire (which was low) went out."
    assert tidy("The fire  a low one , I don't  say  more.", brackets_lost=True) == (
        "The fire (a low one), I don't say more."
    )
    assert tidy("The fire  which was low  went out.") == "The fire which was low went out."


def test_verses_keep_their_lines() -> None:
    text = (
        "Book I\n\n\n  Tiger, tiger,\n    Burning bright\n  Of a long line that was\n      broken here,\n\n  Another."
    )
    assert verses(text) == ["Tiger, tiger,\nBurning bright\nOf a long line that was broken here,", "Another."]


def test_passages_are_as_long_as_asked_for_and_end_with_the_chapter() -> None:
    parts = [words(40) + "." for _ in range(20)]
    found = list(passages([*parts[:10], BREAK, *parts[10:]], 100, 130))
    assert [len(passage.split()) for passage in found] == [120, 120, 120, 40] * 2
    assert "\n\n".join(found) == "\n\n".join(parts)
    long = " ".join(f"{words(30).capitalize()}." for _ in range(10))
    assert [len(passage.split()) for passage in passages([long], 100, 130)] == [120, 120, 60]


def test_sentences() -> None:
    text = 'Mr. Hale came. "Who is it?" he asked. It was J. Smith! "Well."'
    assert sentences(text) == ["Mr. Hale came.", '"Who is it?" he asked.', "It was J. Smith!", '"Well."']


def test_articles_are_written_as_people_write() -> None:
    text = """
 = A Town =

 The town , built in the 1100s , is a well @-@ known one ; it 's old . It has 1 @,@ 234 people ( 2 @.@ 5 % more ) .
 <unk> lived here . It is " small " . He was <unk> . At 04 : 00 the bells ring . They don 't stop . It costs £ 3 .

 = = History = =

 Only <unk> know .

 = Another =

 First sentence . Second sentence .
"""
    assert list(articles(text)) == [
        [
            "The town, built in the 1100s, is a well-known one; it's old. It has 1,234 people (2.5% more).",
            "At 04:00 the bells ring. They don't stop. It costs £3.",
        ],
        ["First sentence. Second sentence."],
    ]


def test_words() -> None:
    assert words_of("Don’t STOP -- the well-known _Tess_!") == ["dont", "stop", "the", "well", "known", "tess"]
