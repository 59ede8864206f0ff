"""Any Generator as a model of lm-evaluation-harness, for who drives the harness itself:

lm_eval.simple_evaluate(model=GeneratorLM(generator), tasks=["hellaswag"])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from fairground.evaluation.tasks.harness import sampling
from fairground.types import Generator, Request, ScoreRequest


class GeneratorLM(LM):  # type: ignore[misc]
    """All requests of a kind go to the generator at once, so that it fills its passes and reads common beginnings once.

    A request that the generator refuses (one that is too long, say) raises what it raises: the harness has no way to
    leave a document out. `fairground rank --suite lm-eval:…` has.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        scores = self.generator.score([ScoreRequest(*request.args) for request in requests])
        return [(score.logprob, score.greedy) for score in scores]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        scores = self.generator.score([ScoreRequest("", *request.args) for request in requests])
        return [score.logprob for score in scores]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        asked = [Request(prompt, sampling(settings, seed=0), exact=True) for prompt, settings in _args(requests)]
        # As many answers as there are to one question, where the harness wants several that differ.
        seen: dict[Request, int] = {}
        streams = []
        for request in asked:
            seen[request] = seed = seen.get(request, -1) + 1
            streams.append(self.generator.submit(replace(request, sampling=replace(request.sampling, seed=seed))))
        return [stream.completion().text for stream in streams]


def _args(requests: Sequence[Instance]) -> list[tuple[str, dict[str, object]]]:
    return [(request.args[0], request.args[1]) for request in requests]
