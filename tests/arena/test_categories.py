"""The rules of categories, against prompts labelled by hand and question sets of a known kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from labelled_prompts import LLMFAO, MT_BENCH, labelled

from fairground.arena.categories import RULES, TITLES, categories, language


def test_every_category_has_a_title_and_a_rule() -> None:
    assert set(TITLES) == set(RULES)
    assert set(MT_BENCH) == set(LLMFAO) <= set(TITLES)


@pytest.mark.parametrize(
    ("category", "precision", "recall"),
    [
        ("code", 0.95, 0.95),
        ("maths", 0.75, 0.95),
        ("creative-writing", 0.95, 0.95),
        ("instruction-following", 0.9, 0.85),
        ("hard", 0.7, 0.7),
    ],
)
def test_precision_and_recall_on_ninety_nine_prompts(
    category: str, precision: float, recall: float, shared: Path
) -> None:
    prompts = list(labelled(shared))
    assert len(prompts) == 99
    found = {name for name, prompt, _ in prompts if category in categories([prompt])}
    right = {name for name, _, labels in prompts if category in labels}
    assert len(found & right) / len(found) >= precision, found - right
    assert len(found & right) / len(right) >= recall, right - found


def test_questions_of_a_known_kind_that_the_rules_were_not_written_on(shared: Path) -> None:
    folder = shared / "data" / "benchmarks"
    word_problems = [json.loads(line)["question"] for line in (folder / "gsm8k_test.jsonl").open(encoding="utf-8")]
    science = [json.loads(line)["query"] for line in (folder / "arc_easy.jsonl").open(encoding="utf-8")]
    share = {
        (name, category): sum(category in categories([prompt]) for prompt in prompts[:400]) / 400
        for name, prompts in (("gsm8k", word_problems), ("arc", science))
        for category in ("code", "maths", "creative-writing")
    }
    assert share["gsm8k", "maths"] > 0.9
    assert share["arc", "maths"] < 0.02
    assert max(share[name, category] for name in ("gsm8k", "arc") for category in ("code", "creative-writing")) < 0.01


def test_length_and_turns() -> None:
    assert "short" in categories(["Why is the sky blue?"])
    assert "long" in categories(["word " * 200])
    assert "long" not in categories(["word " * 199])
    assert "multi-turn" in categories(["Why?", "And then?"])
    assert "multi-turn" not in categories(["Why?"])
    assert categories([]) == ()


def test_a_fence_of_json_is_no_code_and_a_fence_of_code_is() -> None:
    assert "code" not in categories(['Which planets? Answer so:\n\n```\n[{"planet": string, "moons": number}]\n```'])
    assert "code" in categories(["What is this?\n```\ndef f(x):\n    return x + 1\n```"])
    assert "code" not in categories(["Write a film script about a divorce."])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What is the capital of France?", "en"),
        ("Is Taiwan an independent country?", "en"),
        ("Write a Python function to find the nth number in the Fibonacci Sequence.", "en"),
        ("Quelle est la capitale de l'Espagne et pourquoi ?", "fr"),
        ("Schreib ein Gedicht über den Herbst", "de"),
        ("¿Cuál es la capital de España?", "es"),
        ("Qual é a capital do Brasil e por que não é o Rio?", "pt"),
        ("Dimmi una barzelletta sui carabinieri", "it"),
        ("Napisz wiersz o jesieni", "pl"),
        ("写一首关于春天的诗", "zh"),
        ("こんにちは、元気ですか", "ja"),
        ("안녕하세요", "ko"),
        ("Напиши, пожалуйста, стихотворение о весне", "ru"),
        ("ما هي عاصمة مصر؟", "ar"),
        ("इस कविता का अर्थ क्या है?", "hi"),
        ("2 + 2 = ?", "und"),
        ("", "und"),
        ("hi", "und"),
        ("```python\nfor i in range(10):\n    print(i)\n```", "und"),
    ],
)
def test_language(text: str, code: str) -> None:
    assert language(text) == code
