"""What the training tests share: a text and a tokenizer that take a moment."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

WORDS = """the a of and in to was he she it that his her with for on at by as had not but they from all were when we
there one so an out up said what no more about if then him some could into time little only its now other has my do
like our very been them over man such made before after any well first down own must way here""".split()


def sentences(seed: int, count: int) -> str:
    """Text with enough pattern to be learned from and enough chance never to be known by heart."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(4, 12))]
        made.append(" ".join(words).capitalize() + ".")
    return " ".join(made)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sixty documents in one file."""
    folder = tmp_path_factory.mktemp("text")
    rows = [json.dumps({"text": sentences(seed, 12)}) for seed in range(60)]
    (folder / "documents.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def words(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's folder."""
    from fairground.training.text import read_documents
    from fairground.training.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("words")
    train_tokenizer((document.text for document in read_documents(text)), 320).save(folder)
    return folder
