"""`improve`: the arena's votes become pairs, the pairs a better model, and the model one that people meet.

    prepared = prepare(ledger, origin, "smollm2-improved", folder, redact=redacted)
    made = learn(ledger, prepared, recipe)
    enter(ledger, prepared, made)

Each step is an entry of the log. Given again after an interruption, each goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from fairground.errors import DataError
from fairground.governance.chain import Entry
from fairground.hub.made import check_name, keep_made
from fairground.loop.export import Redact
from fairground.loop.ledger import Ledger
from fairground.loop.preferences import LEARNED, MEASURED, WHY, Gathered, gather, write_file, write_pairs
from fairground.loop.steps import file_hashes, log_pairs, log_training, newest_training

if TYPE_CHECKING:
    from fairground.training.contamination import SuiteTexts
    from fairground.training.recipe import Recipe
    from fairground.training.run import Watch

FOLDER, RECORD = "pairs", "pairs.json"  # within the model's folder
LEAST_LEARNED, LEAST_MEASURED = 20, 5  # pairs; with fewer, nothing could be said of the result
RECIPE: dict[str, Any] = {
    "objective": "dpo",
    "passes": 3.0,
    "batch_tokens": 1024,
    "cut": True,
    "evaluate_every": 0,
    "lora": {"rank": 16},
    "preference": {"beta": 0.1},
    "optimiser": {"learning_rate": 3e-4, "warmup": 0.1},
}
LONGEST = 1024  # tokens of prompt and answer; beyond, the end is cut
BY = "command"  # who enters a model, in the log
BESIDE = ("training.json", "README.md")  # what the log names of a model's folder, beside weights and settings


@dataclass(frozen=True, slots=True)
class Origin:
    """The model to begin with: as people name it, where it lies, the hash of its content, and whose it is."""

    name: str
    path: Path
    hash: str
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Pairs in files, and the entry that names them. `record`: counts, hashes, and whether texts were redacted."""

    origin: Origin
    name: str
    folder: Path
    record: Mapping[str, Any]
    entry: Entry

    @property
    def learned(self) -> Path:
        return self.folder / FOLDER / LEARNED

    @property
    def measured(self) -> Path:
        return self.folder / FOLDER / MEASURED

    def sentences(self) -> list[str]:
        """What became of the votes, a line each."""
        counts = self.record["counts"]
        return [
            f"{counts['votes']:,} votes, up to entry {self.entry.body['until']['number']} of the log",
            *(f"{counts[why]:,} left out {said}" for why, said in WHY.items() if counts[why]),
            f"{counts['learned']:,} pairs to learn from, and {counts['held_out']:,} of other prompts held out",
            "personal data were looked for by their form and taken out; names are not detected"
            if self.record["redacted"]
            else "personal data were not looked for, as they are where fairground[privacy] is installed",
        ]


def default_recipe(path: Path, context: int, *, seed: int = 0) -> Recipe:
    """How votes are learned where nobody says otherwise: three passes, an adapter of rank 16, β = 0.1.

    `path`: where the model to begin with lies; `context`: tokens that it sees. The same as recipes/votes.toml.
    """
    from fairground.training.recipe import recipe_of

    return recipe_of({**RECIPE, "model": str(path), "context": min(context, LONGEST), "seed": seed})


def prepare(
    ledger: Ledger,
    origin: Origin,
    name: str,
    folder: Path,
    *,
    redact: Redact | None,
    progress: Callable[[int], None] = lambda votes: None,
) -> Prepared:
    """Writes the pairs that the votes make to `folder`/pairs, and names them in the log; or takes up those there.

    Raises UnknownModel for a name that is another model's; DataError where there are too few, where the folder holds
    pairs for another model or others than it says, or where they cannot be written; StoreError.
    """
    check_name(name, folder)
    path = folder / FOLDER / RECORD
    if not path.exists():
        if (folder / "config.json").exists() or any(folder.glob("*.safetensors")):
            raise DataError(f"{folder} holds a model that votes did not make; give --out another folder.")
        made = gather(ledger.database, redact=redact, progress=progress)
        if len(made.learned) < LEAST_LEARNED or len(made.measured) < LEAST_MEASURED:
            raise DataError(_too_few(made))
        files = {f"{FOLDER}/{file}": digest for file, digest in write_pairs(made, folder / FOLDER).items()}
        record: dict[str, Any] = {"counts": made.counts(), "redacted": made.redacted, "files": files}
        whole = {"name": name, "model": origin.name, "until": [made.number, made.hash], **record}
        write_file(path, (json.dumps(whole, indent=1) + "\n").encode())
    name_, model, until, kept = _read(path)
    if (name_, model) != (name, origin.name):
        raise DataError(f"{folder} holds pairs to make {name_} of {model}; give --out another folder.")
    if file_hashes(folder, kept["files"]) != kept["files"]:
        raise DataError(f"The pairs in {folder / FOLDER} are not those that were written there; give a new --out.")
    return Prepared(origin, name, folder, kept, log_pairs(ledger, name, model, until, kept))


def learn(
    ledger: Ledger,
    prepared: Prepared,
    recipe: Recipe,
    *,
    base: str | None = None,
    suites: SuiteTexts | None = None,
    threads: int | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Entry:
    """Trains on the pairs by the recipe, writes the model's card, and names both in the log; where that was done
    before, and the files are what they were, it stands.

    `base`, `suites` and the rest are handed to `train_model`, which raises what this raises.
    """
    from fairground.training.card import model_card
    from fairground.training.run import train_model

    # Where somebody's models lie is nobody else's business.
    told = {**recipe.as_dict(), "model": prepared.origin.name}
    made = {"base": prepared.origin.hash, "recipe": json.loads(json.dumps(told))}
    before = newest_training(ledger, prepared.name)
    if before is not None and before.body["of"]["hash"] == prepared.entry.hash:
        same = all(before.body[key] == value for key, value in made.items())
        if same and file_hashes(prepared.folder, before.body["files"]) == before.body["files"]:
            return before
    trained = train_model(
        recipe,
        [prepared.learned],
        prepared.folder,
        held_out=[prepared.measured],
        base=base,
        suites=suites,
        threads=threads,
        device=device,
        watch=watch,
    )
    licence = prepared.origin.licence
    summary = {**trained.summary, "recipe": {**trained.summary["recipe"], "model": prepared.origin.name}}
    if "base" in summary:
        summary["base"] = prepared.origin.name
    card = model_card(prepared.name, summary, text=_about(prepared), limits=LIMITS, licence=licence)
    write_file(prepared.folder / "README.md", card.encode())
    files = file_hashes(prepared.folder, sorted(_named(prepared.folder)))
    return log_training(ledger, prepared.entry, {**made, "files": files})


def enter(ledger: Ledger, prepared: Prepared, trained: Entry, parameters: int | None, family: str | None) -> None:
    """From now on people meet the model by its name, here and in every command.

    Raises UnknownModel for a name that is another model's, and DownloadError where the disk refuses.
    """
    keep_made(prepared.name, prepared.folder)
    facts = {
        "organisation": "this arena",
        "licence": prepared.origin.licence or None,
        "parameters": parameters,
        "family": family,
        "of": prepared.origin.name,
        "trained": trained.number,
    }
    ledger.offer_model(prepared.name, facts, BY)


LIMITS = (
    "It was made to please those who voted: what they like is not always true, and what nobody voted on may have "
    "become worse. Whether it is better than the model it came from is said by the verdicts in the log."
)


def _about(prepared: Prepared) -> str:
    """What the card says of the pairs."""
    entry, record = prepared.entry, prepared.record
    said = [
        f"Made of `{prepared.origin.name}` (SHA-256 of its content `{prepared.origin.hash}`) by the votes of an arena: "
        "of two answers to one prompt, the one that a person called better was learned as preferred. Conversations "
        "were used only where their person allows that they are published."
    ]
    lines = [f"- {line}" for line in prepared.sentences()]
    files = [f"- `{name}`: SHA-256 `{digest}`" for name, digest in record["files"].items()]
    log = f"The log of the arena names these pairs in entry {entry.number}, whose hash is `{entry.hash}`."
    return "\n".join([*(fill(part, 110) for part in said), "", *lines, "", *files, "", fill(log, 110)])


def _named(folder: Path) -> list[str]:
    """The files that are the model, and what is said of it."""
    files = [path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".model", ".txt")]
    return [name for name in {*files, *BESIDE} if not name.startswith("checkpoint")]


def _too_few(made: Gathered) -> str:
    why = "; ".join(f"{count:,} {WHY[name]}" for name, count in made.left_out.items() if count)
    return (
        f"{made.votes:,} votes give {len(made.learned):,} pairs to learn from and {len(made.measured):,} to measure, "
        f"but {LEAST_LEARNED} and {LEAST_MEASURED} are needed{f' (left out: {why})' if why else ''}; let people vote."
    )


def _read(path: Path) -> tuple[str, str, tuple[int, str], dict[str, Any]]:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        number, digest = row.pop("until")
        return row.pop("name"), row.pop("model"), (int(number), str(digest)), dict(row)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} cannot be read as what was written there; give --out a new folder.") from None
