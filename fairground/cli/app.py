"""What every command shares: the consoles, the common options, how models are fetched and opened, a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from fairground import __version__
from fairground.errors import MissingExtra, RequestError, UnknownModel

if TYPE_CHECKING:
    from fairground.hub.catalogue import Entry
    from fairground.hub.reference import Reference
    from fairground.models.decoder import Decoder
    from fairground.models.tokenizer import Tokenizer
    from fairground.types import Generator

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run, rank, refine, share and govern open language models on machines you own.",
    epilog="Start with: fairground rate --record, then: fairground rank smollm2",
)
# A pipe or a file has no width of its own; 100 columns hold every table.
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100)
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads (default: all cores).", min=1)]
Device = Annotated[str, typer.Option(help="Where to run: cpu, or cuda on a machine that has it.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Write the same in any company in bfloat16 too; slower.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Accept pytorch_model.bin, which only a trusted source may give.")
]


def version(wanted: bool) -> None:
    if wanted:
        print(f"fairground {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@contextmanager
def needs_local(what: str) -> Iterator[None]:
    """Imports what runs models here, which is an optional part; whoever lacks it is told how to get it."""
    try:
        yield
    except ImportError as missing:
        raise MissingExtra(f"{what} needs {missing.name}; install it with: pip install 'fairground[local]'") from None


class Opening:
    """How local models are opened: what the command line said of threads, device and the like."""

    def __init__(self, threads: int | None, device: str, deterministic: bool, allow_pickle: bool) -> None:
        self.threads, self.device = threads, device
        self._contents: dict[Path, str] = {}  # hashes, as gigabytes are read for one
        self.deterministic, self.allow_pickle = deterministic, allow_pickle

    def fetch(self, reference: Reference) -> None:
        """Pulls a catalogue or hub model that is not here yet, also where it is the base of an adapter."""
        from fairground.hub.installed import locate

        if reference.kind == "catalogue" and locate(reference.target) is None:
            pull_model(reference.target, "auto", self.allow_pickle)
        if reference.kind == "path" and (base := _named_base(Path(reference.target))):
            self.fetch(base)

    def open(self, reference: Reference) -> Generator:
        """The generator that a reference stands for; fetched before. Raises a FairgroundError."""
        if reference.kind == "uniform":
            from fairground.evaluation.baseline import UniformGuesser

            return UniformGuesser()
        if reference.kind == "remote":
            from fairground.remote.openai import open_remote

            return open_remote(reference.target)
        with needs_local("Running models here"):
            from fairground.engine.local import open_model
        path, entry = self._located(reference), entry_of(reference)
        return open_model(
            path,
            name=reference.name,
            precision=reference.precision,  # type: ignore[arg-type]
            device=self.device,
            threads=self.threads,
            licence=entry.licence if entry else None,
            deterministic=self.deterministic,
            allow_pickle=self.allow_pickle,
            base=self.base(path),
            # Only where somebody watches: elsewhere standard error is for what went wrong.
            notice=(lambda said: err.print(said, style="dim", highlight=False)) if err.is_terminal else None,
        )

    def identity(self, reference: Reference) -> str:
        """What a model is made of and how it is run; of a remote one, its address."""
        from fairground.evaluation.environment import cores
        from fairground.hub.content import content_hash

        if reference.kind not in ("catalogue", "path"):
            return reference.target
        path = self._located(reference)
        if path not in self._contents:
            base = self.base(path)
            own, of_base = content_hash(path), content_hash(base) if base else ""
            self._contents[path] = f"{own[:16]}{of_base}" if base else own
        # With another number of threads, sums may be rounded otherwise.
        threads = f" {self.threads or cores()} threads" if self.device == "cpu" else ""
        how = f"{self.device}{threads}{' deterministic' if self.deterministic else ''}"
        return f"{self._contents[path][:32]} {reference.precision} {how}"

    def weights(self, name: str) -> tuple[Decoder, Tokenizer]:
        """A local model's decoder and tokenizer alone, for a teacher. Raises a FairgroundError."""
        from fairground.models.load import load_with_tokenizer

        path = self.path(name)
        loaded, words = load_with_tokenizer(
            path, device=self.device, allow_pickle=self.allow_pickle, base=self.base(path)
        )
        return loaded.decoder, words

    def base(self, path: Path) -> Path | None:
        """Where the base of an adapter's folder lies, fetched before; None where that is not known, or no adapter's."""
        if not _is_adapter(path):
            return None
        from fairground.models.peft_files import base_path, read_adapter_config

        reference = _named_base(path)
        return self._located(reference) if reference else base_path(read_adapter_config(path))

    def path(self, name: str) -> Path:
        """Where a local model lies; fetched before if need be. Raises a FairgroundError."""
        from fairground.hub.reference import Reference, parse

        reference = Reference(name, "path", name) if Path(name).exists() else parse(name)
        if reference.kind not in ("catalogue", "path"):
            raise RequestError(f"{name} is not a model on this machine, so its weights cannot be had.")
        self.fetch(reference)
        return self._located(reference)

    def _located(self, reference: Reference) -> Path:
        """Where a local model that was fetched lies. Raises UnknownModel where it was not, as on another machine."""
        from fairground.hub.installed import locate

        path = locate(reference.target) if reference.kind == "catalogue" else Path(reference.target)
        if path is None:
            raise UnknownModel(f"{reference.target} is not here; run 'fairground pull {reference.target}'.")
        return path


def _is_adapter(path: Path) -> bool:
    return (path / "adapter_config.json").is_file()


def _named_base(path: Path) -> Reference | None:
    """What an adapter's folder calls its base, unless that is a path: a catalogue's name, or one of a hub."""
    from fairground.hub.reference import parse

    if not _is_adapter(path):
        return None
    with needs_local("Running adapters here"):
        from fairground.models.peft_files import base_path, read_adapter_config
    adapter = read_adapter_config(path)
    if adapter.base is None or base_path(adapter) is not None:
        return None
    for name in (adapter.base, f"hf:{adapter.base}"):
        with suppress(UnknownModel):
            return parse(name)
    return None


def entry_of(reference: Reference) -> Entry | None:
    """What the catalogue says of a model that was named from it; None of any other."""
    from fairground.hub.catalogue import lookup

    named = reference.kind == "catalogue" and not reference.target.startswith("hf:")
    return lookup(reference.target) if named else None


def pull_model(name: str, source: str, allow_pickle: bool) -> Path:
    from fairground.hub.pull import pull as fetch

    with bar("{task.description}", DownloadColumn()) as shown:
        task = shown.add_task(f"pulling {name}", total=None)
        return fetch(
            name,
            progress=lambda file, done, total: shown.update(
                task, description=f"{name}: {Path(file).name}", completed=done, total=total
            ),
            notice=lambda sentence: err.print(sentence, style="yellow", highlight=False),
            source=source,  # type: ignore[arg-type]
            allow_pickle=allow_pickle,
        )


@contextmanager
def bar(description: str, *columns: Any) -> Iterator[Progress]:
    """A progress bar on standard error, gone when the work is done; nothing where nobody watches."""
    layout = [TextColumn(description), BarColumn(), *columns, TimeRemainingColumn()]
    with Progress(*layout, console=err, transient=True, disable=not err.is_terminal) as shown:
        yield shown
