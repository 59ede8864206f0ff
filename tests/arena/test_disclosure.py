"""Answers that reveal their maker are caught, and answers about makers are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairground.arena.disclosure import discloses

DRAW = ("smollm2", "SmolLM2-135M-Instruct", "commons-llama-4m", "llama", "Hugging Face", "openai:gpt-4o@https://api/v1")


@pytest.mark.parametrize(
    ("answer", "passage"),
    [
        ("I am Claude, made by Anthropic.", "I am Claude"),
        ("Sure! As an AI language model developed by OpenAI, I cannot.", "As an AI language model developed by OpenAI"),
        ("As a large language model trained by Google, I have no body.", "As a large language model trained by Google"),
        ("Hello, I'm ChatGPT. How can I help?", "I'm ChatGPT"),
        ("I was created by the team at Mistral AI in Paris.", "I was created by the team at Mistral AI"),
        ("My name is SmolLM2 and I help.", "My name is SmolLM2"),
        ("I'm a helpful assistant named smollm.", "I'm a helpful assistant named smollm"),
        ("I am a large language model named\nVicuna.", "I am a large language model named Vicuna"),
        ("This text was written by commons-llama-4m.", "commons-llama-4m"),
        ("I am GPT-4 and I know it.", "I am GPT-4"),
        ("I am LLaMA 2.", "I am LLaMA 2"),
        ("Je suis un assistant développé par Mistral AI.", "Je suis un assistant développé par Mistral AI"),
        ("Ich bin ein Sprachmodell, das von OpenAI trainiert wurde.", "Ich bin ein Sprachmodell, das von OpenAI"),
        ("Soy ChatGPT, un modelo de lenguaje.", "Soy ChatGPT"),
        ("我是通义千问，由阿里巴巴开发。", "我是通义千问"),
        ("我是由深度求索开发的助手。", "我是由深度求索"),
    ],
)
def test_what_reveals_its_maker(answer: str, passage: str) -> None:
    found = discloses(answer, (*DRAW, "smollm"))
    assert found is not None, answer
    assert passage in found or found in passage


@pytest.mark.parametrize(
    "answer",
    [
        "BERT is a language model developed by Google in 2018.",
        "I am not sure that Google has an office there.",
        "I am fond of llamas, and I am a big fan of the falcon.",
        "The mistral is a cold wind; I am told it blows for days.",
        "I am an AI language model and have no opinions.",
        "OpenAI, Anthropic and Mistral AI are companies that train language models.",
        "As an AI assistant, I can compare Claude and Gemini for you.",
        "I ate an apple. I am full. Pi is 3.14159.",
        "I was born in Meta, a village in Italy.",
        "You can use a hugging gesture. My face is red.",
        "Claude Monet painted water lilies.",
        "",
    ],
)
def test_what_does_not(answer: str) -> None:
    assert discloses(answer, DRAW) is None


def test_answers_of_fifty_nine_models_to_ordinary_prompts_reveal_nothing(shared: Path) -> None:
    lines = (shared / "data" / "votes" / "llmfao_results.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["result"] for line in lines]
    assert len(answers) == 1133
    assert [found for answer in answers if (found := discloses(answer, DRAW))] == []
