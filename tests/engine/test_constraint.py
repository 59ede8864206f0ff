"""Structured output: what is written is of the structure, whatever the model would rather have said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress

import jsonschema
import pytest
import tiny_models as tiny

from fairground.engine.constraint import COMPILED
from fairground.engine.local import LocalGenerator, open_model
from fairground.errors import RequestError
from fairground.types import Request, Sampling, Structure

SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2, "maxItems": 4},
    {"anyOf": [{"type": "boolean"}, {"type": "null"}, {"const": 7}]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"kind": {"enum": ["leaf", "branch"]},
     "below": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}}, "required": ["kind"],
     "additionalProperties": False}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGenerator]:
    opened = open_model(tiny.write_folder(tmp_path_factory.mktemp("models") / "tiny"), precision="float32", threads=1)
    yield opened
    opened.close()


def write(model: LocalGenerator, structure: Structure, seed: int = 0) -> tuple[str, str]:
    sampling = Sampling(temperature=1.5, seed=seed, max_tokens=80, structure=structure)
    done = model.submit(Request("a", sampling)).completion()
    return done.text, done.finish_reason


@pytest.mark.parametrize("schema", SCHEMAS, ids=["object", "array", "any", "tree"])
def test_json_is_of_its_schema(model: LocalGenerator, schema: dict) -> None:
    """By another library's judgement; a random model at a high temperature would never write it by itself."""
    ended = 0
    for seed in range(12):
        text, reason = write(model, Structure("json", json.dumps(schema)), seed)
        if reason == "stop":
            jsonschema.validate(json.loads(text), schema)
            ended += 1
    assert ended


@pytest.mark.parametrize("pattern", ["[a-c]{3,5}", "(yes|no), (?:1|22)+x", "é+"])
def test_regular_expressions(model: LocalGenerator, pattern: str) -> None:
    for seed in range(8):
        text, reason = write(model, Structure("regex", pattern), seed)
        assert reason == "length" or re.fullmatch(pattern, text)


def test_choices(model: LocalGenerator) -> None:
    texts = ["A.", "B+", "neither (of them)"]
    assert {write(model, Structure("choice", json.dumps(texts)), seed) for seed in range(30)} == {
        (text, "stop") for text in texts
    }


def test_others_are_not_concerned(model: LocalGenerator) -> None:
    plain = Request("a", Sampling(max_tokens=30, temperature=1, seed=3))
    alone = model.submit(plain).completion().text
    streams = [model.submit(Request("a", Sampling(max_tokens=30, structure=Structure("regex", "[ab]+"))))]
    streams.append(model.submit(plain))
    assert set(streams[0].completion().text) <= {"a", "b"}
    assert streams[1].completion().text == alone


@pytest.mark.parametrize(
    "structure",
    [
        Structure("json", '{"type": "nonsense"}'),
        Structure("json", '{"$ref": "#/nowhere"}'),
        Structure("json", '{"type": "string", "pattern": "("}'),
        Structure("regex", "(a"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_to(model: LocalGenerator, structure: Structure) -> None:
    with pytest.raises(RequestError, match=r"^structure cannot be kept to .* simplify it"):
        write(model, structure)
    assert write(model, Structure("choice", '["a"]')) == ("a", "stop")


def test_an_exploding_expression_harms_nobody(model: LocalGenerator) -> None:
    """Refused, or written as far as the tokens go; either way at once."""
    for pattern in ("a{1,100000000}", "(?:(?:(?:a{1,99}){1,99}){1,99}){1,99}", "(a|b)*(a?b?){60}(a|b|ab){900}"):
        with suppress(RequestError):
            text, _ = write(model, Structure("regex", pattern))
            assert set(text) <= set("ab")


def test_compiled_structures_are_bounded(model: LocalGenerator) -> None:
    for number in range(COMPILED + 20):
        model.submit(Request("a", Sampling(structure=Structure("regex", f"{number}")))).completion()
    assert len(model._reading._structures._compiled) == COMPILED
