"""Cards of our own models: `python tools/write_cards.py MEASURES SAMPLES FOLDER=NAME...`.

MEASURES and SAMPLES are what tools/measure_models.py wrote of the FOLDERs. Writes README.md into each FOLDER, and the
generation config that names every token which ends an answer, where training has not.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairground.models.assemble import write_json, write_text
from fairground.models.tokenizer import Tokenizer
from fairground.training.card import model_card

TEXT = """English novels of 1840 to 1930 and verse (public domain), a little of WikiText-2, and text that SmolLM2 135M
and stories15m wrote: stories, explanations, and questions with answers in the chat format (the data card is
`data/CARD.md` in the repository). Built by `tools/build_text.py`, which removes near duplicates and whatever
shares 13 words with the suites it is measured on. The held-out text is of whole novels, articles and prompts that were
not learned from."""
LIMITS = """A toy by today's measure, made to compare architectures and to have a real text out of every family. It
writes sentences of stories; it knows nothing, and what its answers say is mostly wrong. English only, in the manner of
old novels and children's stories, with their views of people. Not for advice of any kind. Trained on one CPU core, on
far fewer than the 80 million tokens that are planned; the same recipe run on a GPU will replace it."""
SHOWN = {
    "bits_per_byte": "bits per byte of held-out text (fewer is better)",
    "slor": "acceptability of its sentences, SLOR under SmolLM2 (held-out text: {slor})",
    "mean_lp": "mean log-probability of its sentences under SmolLM2 (held-out text: {mean_lp})",
    "repetition": "share of 4-grams that came before in the text",
}


def rows(metrics: Mapping[str, Any], human: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The card's measures, those of the held-out text beside them."""
    beside = {name: f"{human[name]['value']:.2f}" for name in ("slor", "mean_lp") if human.get(name)}
    return [
        {"measure": words.format(**beside), **{key: metrics[name][key] for key in ("value", "low", "high", "n")}}
        for name, words in SHOWN.items()
        if metrics.get(name)
    ]


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("models", nargs="+", metavar="FOLDER=NAME")
    given = parser.parse_args()
    measures = json.loads(given.measures.read_text(encoding="utf-8"))
    written = [json.loads(line) for line in given.samples.read_text(encoding="utf-8").splitlines()]
    for pair in given.models:
        path, _, name = pair.partition("=")
        folder = Path(path)
        measured = next(m for m in measures["models"] if Path(m["model"]).resolve() == folder.resolve())
        samples = [
            {"prompt": row["prompt"], "text": row["text"]} for row in written if row["model"] == measured["model"]
        ]
        card = model_card(
            name,
            json.loads((folder / "training.json").read_text(encoding="utf-8")),
            samples=samples[:4],
            measures=rows(measured["metrics"], measures["held_out"]),
            text=TEXT,
            limits=LIMITS,
            licence="Apache-2.0",
        )
        write_text(folder / "README.md", card)
        words = Tokenizer.from_folder(folder)
        write_json(
            folder / "generation_config.json", {"bos_token_id": words.bos_id, "eos_token_id": sorted(words.eos_ids)}
        )
        os.chmod(folder / "model.safetensors", 0o644)


if __name__ == "__main__":
    main()
