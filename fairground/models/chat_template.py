"""A conversation as the one text that a model was trained to see it as.

Chat templates are programs from strangers. They run in a sandbox that ends them (template_sandbox.py); what they write
equals what Transformers' apply_chat_template writes.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Mapping, Sequence

import jinja2
from jinja2.exceptions import SecurityError

from fairground.errors import RequestError, TemplateError
from fairground.models.template_bounds import ExhaustedError
from fairground.models.template_sandbox import RefusedError, TemplateEnvironment
from fairground.types import Message

# Characters: compiling, which nothing interrupts, then takes a second at the very worst. Templates in use stay below
# half of it.
_MAX_SOURCE = 1 << 16

_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


class ChatTemplate:
    """Renders conversations. Methods may be called from several threads at once.

    `source`: the template's jinja2 text; None where the model has none, and then a plain form stands in:

        System: …

        User: …

        Assistant:

    `bos`, `eos` and `special_tokens` (`unk_token`, …) are what the template may write. `time_limit` is in seconds,
    `output_limit` in characters, for one rendering. A rendered template brings its own bos, so it is encoded with
    `Tokenizer.encode(text, special=False)`; the plain form (`fallback`) brings none and is encoded with special=True.
    """

    def __init__(
        self,
        source: str | None,
        *,
        bos: str | None = None,
        eos: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
        time_limit: float = 1.0,
        output_limit: int = 1 << 22,
    ) -> None:
        self.source = source
        self._tokens = dict(special_tokens or {})
        # A token that the model does not have is left out, so that a template may ask whether it is defined.
        self._tokens |= {name: token for name, token in (("bos_token", bos), ("eos_token", eos)) if token is not None}
        self._time_limit = time_limit
        self._output_limit = output_limit

    @property
    def fallback(self) -> bool:
        """Whether the plain form stands in for a template that the model does not have."""
        return self.source is None

    @property
    def note(self) -> str | None:
        """What a person should know of this template, in a sentence; None where there is nothing to say."""
        if self.source is not None:
            return None
        return (
            "This model has no chat template, so it sees the conversation as plain text (System:, User:, Assistant:), "
            "which it may not have been trained on."
        )

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation's text; `add_generation_prompt`: up to where the assistant's next answer begins.

        Raises RequestError for no messages; TemplateError for a template that is malformed, takes too long, writes too
        much, reaches for what it may not have, or refuses the conversation.
        """
        if not messages:
            raise RequestError("The conversation has no messages; give at least one.")
        if self.source is None:
            turns = [f"{_NAMES[message.role]}: {message.content}" for message in messages]
            return "\n\n".join([*turns, "Assistant:"] if add_generation_prompt else turns)
        return self._rendered(self.source, messages, add_generation_prompt, _ENVIRONMENT)

    def render_marked(self, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]] | None:
        """The whole conversation's text and which spans [start, end) of it the template marks as the assistant's.

        None for a template that has no `{% generation %}`. Raises as `render`, and TemplateError where the template
        takes what it marked apart.
        """
        if self.source is None or not _MARKED.search(self.source):
            return None
        if not messages:
            raise RequestError("The conversation has no messages; give at least one.")
        text, spans, begun = "", list[tuple[int, int]](), None
        for piece in re.split(f"({'|'.join(_MARKS)})", self._rendered(self.source, messages, False, _MARKING)):
            if piece not in _MARKS:
                text += piece
            elif (begun is None) == (piece == _MARKS[1]):
                raise TemplateError("The model's chat template takes apart what it marks as answers; use another one.")
            elif begun is None:
                begun = len(text)
            else:
                spans, begun = [*spans, (begun, len(text))], None
        return text, spans

    def _rendered(
        self, source: str, messages: Sequence[Message], add_generation_prompt: bool, environment: TemplateEnvironment
    ) -> str:
        try:
            return self._run(source, messages, add_generation_prompt, environment)
        except RefusedError as why:
            raise TemplateError(f"The model's chat template refuses this conversation: {_brief(why)}.") from why
        except (ExhaustedError, RecursionError, MemoryError) as why:
            reason = _brief(why) if isinstance(why, ExhaustedError) else "it is nested or calls itself too deeply"
            raise TemplateError(
                f"The model's chat template was stopped, because {reason} (it has {self._time_limit:g} s and "
                f"{self._output_limit:,} characters); use another template, or plain prompts without one."
            ) from why
        except jinja2.TemplateSyntaxError as why:
            raise TemplateError(
                f"The model's chat template is malformed in line {why.lineno}: {_brief(why.message)}; "
                "fetch the model's files again, or use plain prompts without a template."
            ) from why
        except SecurityError as why:
            raise TemplateError(
                f"The model's chat template was stopped, because {_brief(why)}, which templates may not; "
                "do not trust this model's files."
            ) from why
        except Exception as why:  # a template is a program: it may fail in every way that Python can
            reason = _brief(why) or type(why).__name__
            raise TemplateError(
                f"The model's chat template fails on this conversation ({reason}); "
                "change the messages, or use plain prompts without a template."
            ) from why

    def _run(
        self, source: str, messages: Sequence[Message], add_generation_prompt: bool, environment: TemplateEnvironment
    ) -> str:
        template = _compiled(source, environment)
        with environment.budget(self._time_limit, self._output_limit):
            context = template.new_context(
                {
                    **self._tokens,
                    "messages": [{"role": message.role, "content": message.content} for message in messages],
                    "tools": None,
                    "documents": None,
                    "add_generation_prompt": add_generation_prompt,
                }
            )
            pieces, length = [], 0
            for piece in template.root_render_func(context):
                environment.tick()
                length += len(piece)
                if length > self._output_limit:
                    raise ExhaustedError("it writes too much")
                pieces.append(piece)
            return "".join(pieces)


_ENVIRONMENT = TemplateEnvironment()
_MARKED = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_NONCE = secrets.token_hex(16)  # so that no conversation can hold a mark
_MARKS = (f"<{_NONCE} begins>", f"<{_NONCE} ends>")
_MARKING = TemplateEnvironment(_MARKS)


@functools.lru_cache(maxsize=64)
def _compiled(source: str, environment: TemplateEnvironment) -> jinja2.Template:
    if len(source) > _MAX_SOURCE:
        raise ExhaustedError(f"it is longer than {_MAX_SOURCE:,} characters")
    return environment.from_string(source)


def _brief(why: object) -> str:
    """An error's text on one line, at most 200 characters, without a full stop of its own."""
    text = " ".join(str(why or "").split())
    return (text if len(text) <= 200 else text[:199] + "…").rstrip(".")
