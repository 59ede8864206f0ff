"""Text that models write, beside held-out text: `python tools/measure_models.py MODEL... --text HELD_OUT --out FILE`.

    python tools/measure_models.py ./small ./five-gram --text held_out/novels.jsonl.gz held_out/stories.jsonl.gz \\
        --scorer smollm2 --out measures.json --samples samples.jsonl

Each model goes on from the first 12 words of held-out documents. Its text and the document's own are cut to the same
number of words, and of both the complete sentences after the one that holds the beginning's last word are measured
under one scorer: SLOR and MeanLP (fairground/evaluation/acceptability.py); the held-out sentences with their words
shuffled are the floor. Beside these stand repetition and sentence length, so that a model that says one good sentence
again and again cannot win; and bits per byte of whole held-out documents. Every mean has an interval, every difference
is paired by document; intervals of differences are not corrected for how many there are.

Held-out text is what `fairground train` reads: .jsonl or .jsonl.gz with {"text"} or {"messages"}, .txt. Of a
conversation, the assistant's last answer is the document. The beginnings come from all files evenly. Where a teacher
wrote the held-out text, "held_out" is that teacher's writing and no person's. A scorer expects its own text more than
others' text, so take one that is not measured.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from fairground import __version__
from fairground.cli.app import Opening
from fairground.errors import DataError, FairgroundError, RequestError
from fairground.evaluation.acceptability import LEAD, acceptability, shuffled
from fairground.evaluation.bits_per_byte import bits_per_byte, document_bits
from fairground.evaluation.intervals import Interval, share
from fairground.evaluation.metrics import repetition
from fairground.evaluation.ratios import Ratios
from fairground.evaluation.splitting import is_complete, sentences
from fairground.evaluation.unigrams import Unigrams
from fairground.hub.reference import parse
from fairground.training.text import Document, read_documents
from fairground.types import Generator, Request, Sampling

HELD_OUT, SHUFFLED = "held_out", "held_out_shuffled"
PROMPT_WORDS = 12
SHORTEST = 4  # words; an exclamation of one or two is neither acceptable nor not
FEWEST_WORDS = 50_000  # of a reference for word frequencies
SAMPLING = Sampling(temperature=0.7, top_k=50)


def document_of(row: Document) -> str:
    """The text to continue and predict: all of it, or a conversation's last answer."""
    if row.messages is None:
        return row.text.strip()
    return [message.content for message in row.messages if message.role == "assistant"][-1].strip()


def first_words(text: str, count: int) -> str:
    """The text up to the end of its `count`-th word, white space as it was."""
    found = re.match(rf"(?:\s*\S+){{0,{count}}}", text)
    return found[0] if found else ""


def beginnings(files: Mapping[str, Sequence[str]], count: int, words: int, seed: int) -> list[str]:
    """`count` documents with at least `words` words, drawn from the files in turn. Raises DataError for too few."""
    rng = random.Random(seed)
    drawn = []
    for name in sorted(files):
        long = [text for text in dict.fromkeys(files[name]) if len(text.split()) >= words]
        drawn.append(rng.sample(long, len(long)))
    turns = [text for turn in range(max(map(len, drawn))) for texts in drawn for text in texts[turn : turn + 1]]
    chosen = list(dict.fromkeys(turns))[:count]
    if len(chosen) < 2:
        raise DataError(
            f"The held-out text has {len(chosen)} documents of at least {words} words, but two are needed; give longer "
            "documents, or make --words smaller."
        )
    return chosen


def write(generator: Generator, prompts: Sequence[str], max_tokens: int, seed: int) -> list[str]:
    """What the model goes on with, each prompt with a seed of its own."""
    streams = [
        generator.submit(
            Request(prompt, Sampling(SAMPLING.temperature, SAMPLING.top_k, max_tokens=max_tokens, seed=seed + number))
        )
        for number, prompt in enumerate(prompts)
    ]
    return [stream.completion().text for stream in streams]


def own_sentences(prompt: str, continuation: str) -> list[str]:
    """The complete sentences that begin after the prompt, but for those too short to judge."""
    found = sentences(prompt + continuation, len(prompt))
    return [sentence for sentence in found if is_complete(sentence) and len(sentence.split()) >= SHORTEST]


def repeated_elsewhere(texts: Sequence[str]) -> list[float]:
    """For each text the share of its 4-grams of words that stand in another of the texts too; 0 without a 4-gram."""
    grams = [{tuple(words[i : i + 4]) for i in range(len(words) - 3)} for words in (text.split() for text in texts)]
    holding = Counter(gram for own in grams for gram in own)
    return [sum(holding[gram] > 1 for gram in own) / len(own) if own else 0.0 for own in grams]


def as_json(interval: Interval | None) -> dict[str, Any] | None:
    return interval.as_json() if interval else None


def style(texts: Sequence[str], sentences_: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Repetition inside a text and between texts (shares), and words of a sentence and of a text (means)."""
    rows = [str(row) for row in range(len(texts))]
    lengths = {
        "sentence_words": ([sum(len(s.split()) for s in own) for own in sentences_], [len(own) for own in sentences_]),
        "words": ([len(text.split()) for text in texts], [1] * len(texts)),
    }
    return {
        "repetition": share([repetition(text) for text in texts], rows).as_json(),
        "repeated_elsewhere": share(repeated_elsewhere(texts), rows).as_json(),
        **{name: as_json(Ratios({name: top}, {name: below}).interval(name)) for name, (top, below) in lengths.items()},
        "texts_without_a_sentence": sum(not own for own in sentences_),
    }


def differences(metric: str, ratios: Ratios, pairs: Iterable[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A row for each pair whose difference is known, as in leaderboard.json."""
    for a, b in pairs:
        if found := ratios.difference(a, b):
            yield {"a": a, "b": b, "metric": metric, "difference": found.value, "low": found.low, "high": found.high}


def said(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The measures as JSON holds them, and a row for each text that was written. Raises a FairgroundError."""
    opening = Opening(args.threads, args.device, False, False)
    models = [parse(model) for model in dict.fromkeys(args.models)]
    names = [model.name for model in models]
    scoring = parse(args.scorer)
    for named in (*models, scoring):
        if named.kind == "uniform":
            # What it calls a score is a random number for ranking choices; as bits per byte it would beat everyone.
            raise RequestError("uniform guesses and gives text no probability; leave it out.")
        opening.fetch(named)
    files = {str(path): [document_of(row) for row in read_documents(path)] for path in args.text}
    started = beginnings(files, args.texts, PROMPT_WORDS + args.words, args.seed)
    prompts = [first_words(text, PROMPT_WORDS) for text in started]
    rng = random.Random(args.seed)
    predicted = {name: rng.sample(own, min(len(own), args.documents)) for name, own in files.items()}
    documents = [text for own in predicted.values() for text in own]
    reference = list(reference_texts(args.unigrams, files, started))
    amount = sum(len(text.split()) for text in reference)
    if amount < FEWEST_WORDS:
        raise DataError(
            f"Word frequencies need at least {FEWEST_WORDS:,} words of text that is not measured, but there are "
            f"{amount:,}; give such text with --unigrams."
        )
    unigrams = Unigrams(reference)
    written = {HELD_OUT: [text[len(prompt) :] for text, prompt in zip(started, prompts, strict=True)]}
    bits: dict[str, Sequence[float]] = {}
    infos: dict[str, Any] = {}
    for model in models:
        name = model.name
        generator = opening.open(model)
        try:
            infos[name] = generator.info
            said(f"{name} writes {len(prompts)} texts")
            written[name] = write(generator, prompts, args.max_tokens, args.seed)
            said(f"{name} predicts {len(documents)} documents")
            bits[name] = document_bits(generator, documents).tolist()
        finally:
            generator.close()
    texts = {name: [first_words(text, args.words) for text in own] for name, own in written.items()}
    own = {name: [own_sentences(*each) for each in zip(prompts, texts[name], strict=True)] for name in texts}
    groups = {**own, SHUFFLED: [[shuffled(sentence) for sentence in text] for text in own[HELD_OUT]]}
    said(f"{args.scorer} scores {sum(len(text) for group in groups.values() for text in group)} sentences")
    if scoring.name in names:
        said(f"{scoring.name} scores its own text too, which it expects more than others' text; mind that")
    scorer = opening.open(scoring)
    try:
        accepted = acceptability(scorer, groups, unigrams, human=HELD_OUT)
    finally:
        scorer.close()
    metrics = accepted.as_json()
    for name in texts:
        metrics[name] |= style(texts[name], own[name])
    predictions = bits_per_byte(bits, documents)
    at = 0
    for file, some in predicted.items():
        part = bits_per_byte({name: each[at : at + len(some)] for name, each in bits.items()}, some)
        at += len(some)
        for name in names:
            metrics[name].setdefault("bits_per_byte_by_text", {})[file] = as_json(part.interval(name))
    for name in names:
        metrics[name]["bits_per_byte"] = as_json(predictions.interval(name))
    between = list(combinations(names, 2))
    compared = [
        *differences("bits_per_byte", predictions, between),
        *(
            row
            for metric, ratios in (("slor", accepted.slor), ("mean_lp", accepted.mean_lp))
            for row in differences(metric, ratios, [*between, *((name, HELD_OUT) for name in names)])
        ),
    ]
    run = {
        "fairground": __version__,
        "scorer": args.scorer,
        "lead": LEAD,
        "texts": len(prompts),
        "documents": len(documents),
        "prompt_words": PROMPT_WORDS,
        "max_tokens": args.max_tokens,
        "words": args.words,
        "temperature": SAMPLING.temperature,
        "top_k": SAMPLING.top_k,
        "seed": args.seed,
        "text": list(files),
        "unigrams": [str(path) for path in args.unigrams] or "the held-out documents that no model continues",
        "unigram_words": unigrams.words,
    }
    rows = [
        {
            "model": name,
            "family": infos[name].family,
            "parameters": infos[name].parameters,
            "precision": infos[name].precision,
            "metrics": metrics[name],
        }
        for name in names
    ]
    results = {
        "run": run,
        "models": rows,
        HELD_OUT: metrics[HELD_OUT],
        SHUFFLED: metrics[SHUFFLED],
        "comparisons": compared,
    }
    samples = [
        {"model": name, "prompt": prompt, "text": text, "measured": kept}
        for name in texts
        for prompt, text, kept in zip(prompts, texts[name], own[name], strict=True)
    ]
    return results, samples


def reference_texts(given: Sequence[Path], files: Mapping[str, Sequence[str]], started: Sequence[str]) -> Iterator[str]:
    """What word frequencies are counted in: never a document whose sentences are measured."""
    if given:
        return (document_of(row) for path in given for row in read_documents(path))
    taken = set(started)
    return (text for own in files.values() for text in own if text not in taken)


def table(results: Mapping[str, Any]) -> str:
    """The main measures, a line each."""
    columns = ("slor", "mean_lp", "repetition", "repeated_elsewhere", "sentence_words", "bits_per_byte")
    rows = {HELD_OUT: results[HELD_OUT], SHUFFLED: results[SHUFFLED]}
    rows |= {model["model"]: model["metrics"] for model in results["models"]}
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{column:>25}" for column in columns)]
    for name, metrics in rows.items():
        cells = (metrics.get(column) for column in columns)
        shown = (f"{c['value']:.2f} ({c['low']:.2f} to {c['high']:.2f})" if c else "-" for c in cells)
        lines.append(f"{name:{width}}" + "".join(f"{cell:>25}" for cell in shown))
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="as fairground names models")
    parser.add_argument("--text", nargs="+", type=Path, required=True, help="files of held-out text")
    parser.add_argument(
        "--unigrams", nargs="*", type=Path, default=[], help="text to count words in (default: held out)"
    )
    parser.add_argument("--scorer", default="smollm2")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--samples", type=Path, help="a JSON lines file for what was written")
    parser.add_argument("--texts", type=int, default=100, help="texts that each model writes")
    parser.add_argument("--documents", type=int, default=200, help="documents a file that each model predicts")
    parser.add_argument("--max-tokens", type=int, default=120, help="the model's own tokens of a text")
    parser.add_argument("--words", type=int, default=80, help="words of a continuation that are measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if min(args.texts, args.documents, args.max_tokens, args.words) < 2:
        parser.error("--texts, --documents, --max-tokens and --words must be 2 or more")
    return args


def main() -> int:
    args = arguments()
    try:
        results, samples = measure(args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        if args.samples:
            rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples)
            args.samples.write_text(rows, encoding="utf-8")
    except FairgroundError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{args.out} cannot be written ({error.strerror}); choose another place.", file=sys.stderr)
        return 2
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
