"""Conversations as tokens, of which only what the assistant says is learned."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairground.models.chat_template import ChatTemplate
from fairground.models.tokenizer import Tokenizer
from fairground.models.vocabulary import TURN_ENDS
from fairground.types import Message

Spans = list[tuple[int, int]]


def tokenize_chat(
    messages: Sequence[Message], tokenizer: Tokenizer, template: ChatTemplate
) -> tuple[list[int], list[bool]]:
    """The ids of a conversation up to its last answer, and which of them are learned.

    Ids and mask equal those of Transformers' apply_chat_template where the template marks what is generated. Where it
    does not, an answer is what the template writes after the generation prompt, up to the token that ends the turn.
    Without a template, or where it ends turns with no token, eos ends the conversation and is learned.
    """
    last = max(number for number, message in enumerate(messages) if message.role == "assistant")
    told = messages[: last + 1]
    ends = _ends(tokenizer)
    text, spans = template.render_marked(told) or _by_difference(told, template, ends)
    ids, learned = tokenizer.encode_marked(text, spans, special=template.fallback)
    closed = any(spelt and token in tokenizer.eos_ids for token, spelt in zip(ids[-4:], learned[-4:], strict=True))
    if not closed and tokenizer.eos_id is not None:
        ids, learned = [*ids, tokenizer.eos_id], [*learned, True]
    return ids, learned


def _by_difference(messages: Sequence[Message], template: ChatTemplate, ends: Collection[str]) -> tuple[str, Spans]:
    """The conversation's text, and its answers by where prompts end in it.

    Of a template that writes earlier turns otherwise once more follow, only the last answer can be told.
    """
    text = template.render(messages, add_generation_prompt=False)
    spans: Spans = []
    for number, message in enumerate(messages):
        if message.role != "assistant":
            continue
        asked = template.render(messages[:number]) if number else ""
        answered = template.render(messages[: number + 1], add_generation_prompt=False)
        if text.startswith(answered) and answered.startswith(asked):
            spans.append((len(asked), _turn_end(answered, len(asked), ends)))
    if not spans:
        asked = template.render(messages[:-1]) if len(messages) > 1 else ""
        first = next(
            (n for n, (a, b) in enumerate(zip(asked, text, strict=False)) if a != b), min(len(asked), len(text))
        )
        spans.append((first, _turn_end(text, first, ends)))
    return text, spans


def _turn_end(text: str, start: int, ends: Collection[str]) -> int:
    """Where an answer that began at `start` ends: after its last end token, if only white space follows."""
    last = max((at + len(end) for end in ends if (at := text.rfind(end, start)) >= 0), default=len(text))
    return len(text) if text[last:].strip() else last


def _ends(tokenizer: Tokenizer) -> set[str]:
    own = tokenizer.special_tokens.get("eos_token")
    return {*TURN_ENDS, *([own] if own else [])}
