"""Puts trained models into the package: `python tools/bundle_models.py FOLDER=NAME...`.

Copies what a model needs out of each FOLDER to fairground/hub/commons/NAME/, and writes fairground/hub/commons/
manifest.json anew from what lies there: each file's size and SHA-256, which every pull is verified against. Without
arguments only the manifest is written, after a card was edited.

A model is opened first, and nothing is copied where it does not open, where its parameters are not the catalogue's, or
where a file is missing or too large for a repository.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fairground.engine.local import open_model
from fairground.errors import DataError, FairgroundError
from fairground.hub.catalogue import COMMONS, lookup
from fairground.hub.manifest import FileRecord, hash_file

NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md")
WANTED = (
    *NEEDED,
    "chat_template.jinja",
    "generation_config.json",
    "training.json",
    "loss.svg",
)  # an n-gram model has no curve of losses
MOST_BYTES = 16_000_000  # a file; every clone carries them all


def check(folder: Path, name: str) -> None:
    """Raises a FairgroundError where the folder may not become the catalogue's model of that name."""
    entry = lookup(name)
    if entry.bundled is None:
        raise DataError(f"{name} has no `bundled = true` in catalogue.toml; write it there, or correct the name.")
    for file in NEEDED:
        if not (folder / file).is_file():
            raise DataError(f"{folder} has no {file}, which a bundled model needs, so nothing was copied; write it.")
    for file in WANTED:
        if (folder / file).is_file() and (size := (folder / file).stat().st_size) > MOST_BYTES:
            raise DataError(
                f"{folder / file} has {size / 1e6:.1f} MB, but {MOST_BYTES / 1e6:.0f} MB is the most for a file in the "
                "package, so nothing was copied; make the model smaller."
            )
    model = open_model(folder, name=name)
    count = model.info.parameters
    model.close()
    if count != entry.parameters:
        raise DataError(
            f"{folder} has {count:,} parameters, but catalogue.toml says {entry.parameters:,} of {name}, so nothing "
            f"was copied; write `parameters = {count:_}` there, or give the right folder."
        )


def copy(folder: Path, name: str, commons: Path) -> None:
    """Replaces what lies in `commons` under that name; says on standard output what it now is."""
    final, partial = commons / name, commons / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    there = [file for file in WANTED if (folder / file).is_file()]
    for file in there:
        shutil.copyfile(folder / file, partial / file)  # not its mode: a package's files are for everybody to read
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    size = sum((final / file).stat().st_size for file in there)
    lacking = ", ".join(file for file in WANTED if file not in there)
    print(f"{name}: {len(there)} files, {size / 1e6:.1f} MB{f'; without {lacking}' if lacking else ''}")


def write_manifest(commons: Path) -> None:
    """Records every file of every model in `commons`, sorted, so that the same files give the same bytes."""
    table = {
        folder.name: {
            file.name: FileRecord(file.stat().st_size, hash_file(file))
            for file in sorted(folder.iterdir())
            if file.name in WANTED
        }
        for folder in sorted(commons.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    partial = commons / "manifest.json.partial"
    text = json.dumps(table, default=asdict, indent=1, sort_keys=True)
    partial.write_text(text + "\n", encoding="utf-8", newline="\n")
    os.replace(partial, commons / "manifest.json")
    total = sum(record.size for files in table.values() for record in files.values())
    print(f"{commons / 'manifest.json'}: {len(table)} models, {total / 1e6:.1f} MB")


def bundle(models: Sequence[tuple[Path, str]], commons: Path) -> None:
    """Checks every model, then copies every model, then writes the manifest. Raises a FairgroundError."""
    for folder, name in models:
        check(folder, name)
    commons.mkdir(parents=True, exist_ok=True)
    for folder, name in models:
        copy(folder, name, commons)
    write_manifest(commons)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="FOLDER=NAME", help="a trained folder and its catalogue name")
    pairs = [text.rpartition("=") for text in parser.parse_args().models]
    if not all(folder and name for folder, _, name in pairs):
        parser.error("write each model as FOLDER=NAME")
    try:
        bundle([(Path(folder), name) for folder, _, name in pairs], COMMONS)
    except FairgroundError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
