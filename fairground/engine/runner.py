"""One forward pass over what the scheduler chose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fairground.engine.cache import Cache
from fairground.engine.scheduler import Chunk
from fairground.models.decoder import Decoder
from fairground.models.packed import Packed


class Runner:
    """A decoder over a cache.

    `exact`: the same bits in any company, as scores have them, for every text; otherwise in the passes that hold a text
    that wants it.
    """

    def __init__(self, decoder: Decoder, cache: Cache, *, exact: bool) -> None:
        self.decoder, self.cache, self._exact = decoder, cache, exact

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Caches the chunks' keys and values; gives the logits, [M, vocab_size], after those M that are whole."""
        texts = [chunk.text for chunk in chunks]
        exact = self._exact or any(text.exact for text in texts)
        packed = Packed.of([chunk.count for chunk in chunks], [text.computed for text in texts])
        tokens = [token for c in chunks for token in c.text.tokens[c.text.computed : c.text.computed + c.count]]
        tables = [[text.tables[group] for text in texts] for group in range(len(self.cache.windows))]
        device = self.decoder.device
        hidden = self.decoder(torch.tensor(tokens, device=device), packed, self.cache.view(tables), exact=exact)
        ends = [end - 1 for chunk, end in zip(chunks, packed.starts[1:], strict=True) if chunk.whole]
        return self.decoder.logits(hidden[ends], exact=exact)
