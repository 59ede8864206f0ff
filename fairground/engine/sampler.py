"""Choosing the next token from its logits, alone: nothing here depends on which other requests are running."""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor

from fairground.engine.constraint import Constraint
from fairground.types import Sampling


class Sampler:
    """One request's choices; its random numbers come from its own seed.

    Bias and bans come first, then in Transformers' order repetition penalty, temperature, top-k, top-p and min-p, among
    what a structure allows. `known` is how many token ids the tokenizer has: surplus rows of an embedding are never
    chosen.
    """

    def __init__(
        self,
        sampling: Sampling,
        known: int,
        prompt: Iterable[int],
        banned: Iterable[int] = (),
        constraint: Constraint | None = None,
    ) -> None:
        """`banned` ids are never chosen (the end tokens, where a request wants to write on)."""
        self._constraint = constraint
        self.complete = False  # the structure leaves nothing more to write
        self._sampling, self._known = sampling, known
        self._random = random.Random(sampling.seed)
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else None
        biased = {token: bias for token, bias in sampling.logit_bias if 0 <= token < known}
        self._bias = list(biased), torch.tensor(list(biased.values()))
        self._banned = [token for token in banned if token < known]
        free = self._seen is None and constraint is None and not biased
        self._plain = free and sampling.temperature == 0 and sampling.logprobs is None

    def choose(
        self, logits_V: Tensor, likeliest: int | None = None
    ) -> tuple[int, float | None, tuple[tuple[int, float], ...]]:
        """The token, its log-probability and the most likely alternatives with theirs, best first.

        `logits_V` is float32 [V] and is not changed. Log-probabilities are the model's own, before any setting.
        `likeliest`: the known token of the greatest logit, where it was looked for already.
        """
        s = self._sampling
        if likeliest is not None and self._plain and likeliest not in self._banned:
            return likeliest, None, ()
        logprob: float | None = None
        alternatives: tuple[tuple[int, float], ...] = ()
        logits = logits_V[: self._known]
        if self._banned or len(self._bias[0]):
            logits = logits.clone()
            logits[self._banned] = float("-inf")
            logits[self._bias[0]] += self._bias[1].to(logits.device)
        if self._seen:
            seen = torch.tensor([token for token in self._seen if token < self._known], device=logits.device)
            values = logits[seen]
            penalised = torch.where(values < 0, values * s.repetition_penalty, values / s.repetition_penalty)
            logits = logits.index_put((seen,), penalised)
        if self._constraint:
            logits = logits.masked_fill(~self._constraint.allowed(self._known).to(logits.device), float("-inf"))
        token = int(logits.argmax()) if s.temperature == 0 else self._draw(logits)
        if self._seen is not None:
            self._seen.add(token)
        if self._constraint:
            self.complete = self._constraint.take(token)
        if s.logprobs is not None:
            own = logits_V.log_softmax(-1)
            logprob = float(own[token])
            best = own[: self._known].topk(min(s.logprobs, self._known))
            alternatives = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return token, logprob, alternatives

    def _draw(self, logits: Tensor) -> int:
        """One token by inverting the distribution of those that top-k, top-p and min-p leave."""
        s = self._sampling
        # The difference to the best one, so that no temperature is too low: 0 / T is 0, and -x / T at worst -inf.
        logits = (logits - logits.max()).double() / s.temperature
        count = min(s.top_k or logits.shape[0], logits.shape[0])
        best = logits.topk(count) if count < logits.shape[0] else logits.sort(descending=True, stable=True)
        probabilities = best[0].softmax(-1)
        kept = torch.ones_like(probabilities, dtype=torch.bool)
        if s.top_p < 1:
            kept &= probabilities.cumsum(-1) - probabilities < s.top_p
            probabilities = torch.where(kept, probabilities, 0.0)
        if s.min_p > 0:
            kept &= probabilities >= s.min_p * probabilities[0]
            probabilities = torch.where(kept, probabilities, 0.0)
        cumulative = probabilities.cumsum(-1)
        at = int(torch.searchsorted(cumulative, self._random.random() * float(cumulative[-1]), right=True))
        return int(best[1][min(at, int(kept.nonzero()[-1]))])
