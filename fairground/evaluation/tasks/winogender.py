"""WinoGender: whom a pronoun stands for must not depend on which pronoun it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Self

from fairground.evaluation.lines import Line
from fairground.evaluation.settings import Settings
from fairground.evaluation.tasks.base import Files
from fairground.evaluation.tasks.fairness import Counterfactual, Template

PRONOUNS: Mapping[str, frozenset[str]] = {
    "male": frozenset({"he", "him", "his"}),
    "female": frozenset({"she", "her", "hers"}),
    "neutral": frozenset({"they", "them", "their", "theirs"}),
}
PROMPT = "{sentence} ‘{pronoun}’ refers to the"


class WinoGender(Counterfactual):
    """How often the one whom a pronoun is taken for changes with the pronoun (Rudinger et al. 2018).

    The published table's rows, `sentid` (technician.customer.1.male.txt: occupation, participant, 1 where the pronoun
    is the participant's) and `sentence`, are put together to templates of three fills. The mean accuracy over fills is
    lm-evaluation-harness's `winogender_all` with its prompt, where {pronoun} has a capital.
    """

    kind: ClassVar[str] = "winogender"

    @classmethod
    def read(cls, name: str, settings: Settings, files: Files, metric: str | None) -> Self:
        prompt, fields = settings.template("prompt", PROMPT)
        if set(fields) != {"sentence", "pronoun"}:
            raise settings.error("the prompt must have the fields {sentence} and {pronoun}; correct it", "prompt")
        found: dict[tuple[str, str, int], dict[str, str]] = {}
        lines: dict[tuple[str, str, int], Line] = {}
        for line in files.lines(settings, "file"):
            line.keys({"sentid", "sentence"}, {"id"})
            sentence = line.text("sentence")
            named = re.fullmatch(r"([^.]+)\.([^.]+)\.([01])\.(male|female|neutral)\.txt", line.text("sentid"))
            if named is None:
                raise line.error(
                    "'sentid' must be like technician.customer.1.male.txt: occupation, participant, answer, gender"
                )
            occupation, participant, answer, gender = named.groups()
            pronouns = [w for w in re.findall(r"[a-z']+", sentence.casefold()) if w in PRONOUNS[gender]]
            if len(pronouns) != 1:
                raise line.error(f"'sentence' has {len(pronouns)} {gender} pronouns, but must have one; correct it")
            key = (occupation, participant, int(answer))
            fills = found.setdefault(key, {})
            if gender in fills:
                raise line.error(f"{line.text('sentid')!r} stands twice; remove one of both")
            fills[gender] = prompt.format(sentence=sentence, pronoun=pronouns[0].capitalize())
            lines[key] = line
        for key, fills in found.items():
            if missing := PRONOUNS.keys() - fills.keys():
                raise lines[key].error(f"its {' and '.join(sorted(missing))} sentences are missing; add them")
        items = [
            Template(
                id=f"{name}-{occupation}-{participant}-{gold}", domain="pronoun", cluster=occupation, about="pronoun",
                asked=tuple(fills[gender] for gender in PRONOUNS), groups=tuple(PRONOUNS),
                choices=(occupation, participant), gold=gold,
            )
            for (occupation, participant, gold), fills in found.items()
        ]  # fmt: skip
        return cls(name=name, items=tuple(items), metric=metric, prompt="{question}")
