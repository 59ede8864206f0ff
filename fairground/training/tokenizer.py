"""A tokenizer learnt from text: byte-level byte-pair encoding, so that no text is outside its vocabulary.

Sennrich et al., 2016, section 3.2; on bytes: Radford et al., 2019, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from fairground.errors import DataError, RequestError
from fairground.models.tokenizer import Tokenizer
from fairground.models.vocabulary import Vocabulary, add_surrounding
from fairground.training.text import read_documents

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SMALLEST = 300  # 256 bytes, the special tokens, and some merges

# ChatML as SmolLM2 has it, without a default system message. <|endoftext|> goes first here too, for a rendered
# template is encoded as it stands.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer_of(paths: Iterable[Path], vocab_size: int) -> Tokenizer:
    """A tokenizer learnt from all documents under the paths. Raises as `read_documents` and `train_tokenizer` do."""
    return train_tokenizer((document.text for path in paths for document in read_documents(path)), vocab_size)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns `vocab_size` tokens from `texts`; the same texts in the same order give the same tokenizer.

    Ids 0, 1 and 2 are <|endoftext|> (which begins and ends every document, and pads), <|im_start|> and <|im_end|>; the
    256 bytes follow. Digits stand alone. `encode` puts <|endoftext|> in front, as documents are trained.
    Raises RequestError for a vocabulary too small to hold all bytes, DataError for texts too few to fill it.
    """
    if vocab_size < SMALLEST:
        raise RequestError(
            f"A vocabulary of {vocab_size} tokens cannot hold every byte and learn words; ask for {SMALLEST} or more."
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    special = [AddedToken(text, normalized=False, special=True) for text in (END, TURN, TURN_END)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,  # a pair seen once is no pattern, but one text's spelling
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if (found := backend.get_vocab_size()) < vocab_size:
        raise DataError(
            f"The texts hold only {found:,} different tokens, fewer than the {vocab_size:,} asked for; "
            "give more text or ask for a smaller vocabulary."
        )
    add_surrounding(backend, END, None)
    names = {"bos_token": END, "eos_token": END, "pad_token": END}
    return Tokenizer(Vocabulary(backend, names, frozenset({0}), CHAT_TEMPLATE, bos_id=0))
