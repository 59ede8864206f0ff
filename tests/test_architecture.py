"""The house's import table: a room imports only from the rooms in its row, inside functions too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fairground"
BASE = {"types", "errors"}
ALL = {
    *BASE, "models", "kernels", "engine", "remote", "evaluation", "arena", "training", "hub", "governance", "store",
    "serving", "loop", "web", "cli",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "types": {"errors"},
    "errors": set(),
    "models": BASE,
    "kernels": BASE,
    "engine": {*BASE, "models", "kernels"},
    "remote": BASE,
    "evaluation": BASE,
    "arena": BASE,
    "training": {*BASE, "models"},
    "hub": BASE,
    "governance": BASE,
    "store": BASE,
    "serving": {*BASE, "hub"},
    "loop": {*BASE, "training", "evaluation", "arena", "hub", "governance", "store"},
    "web": ALL - {"models", "kernels", "engine", "training", "web", "cli"},
    "cli": ALL - {"cli"},
}
# What a room must not pull in, so that the light package ranks remote models and rates votes without it.
HEAVY = {"torch", "safetensors", "tokenizers", "gguf", "jinja2", "transformers"}
LIGHT_ROOMS = (
    "types", "errors", "remote", "evaluation", "arena", "hub", "governance", "store", "loop", "serving", "cli",
)  # fmt: skip


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0]
        if part != "__init__.py":
            yield part.removesuffix(".py"), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            module = node.module or ""
            yield from (f"{module}.{name.name}" for name in node.names) if module == "fairground" else (module,)


@pytest.mark.parametrize(("room", "path"), list(rooms()), ids=lambda value: str(value).rpartition("fairground/")[2])
def test_a_room_imports_only_from_its_row(room: str, path: Path) -> None:
    for name in imports(path):
        if name.startswith("fairground."):
            other = name.split(".")[1]
            if other not in (room, "__version__"):
                assert other in MAY_IMPORT[room], f"{path} imports {name}"


@pytest.mark.parametrize(
    ("room", "path"),
    [(room, path) for room, path in rooms() if room in LIGHT_ROOMS],
    ids=lambda value: str(value).rpartition("fairground/")[2],
)
def test_light_rooms_need_no_torch(room: str, path: Path) -> None:
    heavy = {name.split(".")[0] for name in imports(path)} & HEAVY
    assert not heavy, f"{path} imports {heavy}"


def test_no_file_grows_too_long() -> None:
    long = [(len(path.read_text().splitlines()), str(path)) for path in PACKAGE.rglob("*.py")]
    assert max(long)[0] <= 500, max(long)
    for family in ("gpt2", "gpt_neo", "gpt_j", "llama", "mistral"):
        assert len((PACKAGE / "models" / "families" / f"{family}.py").read_text().splitlines()) <= 120, family


def test_the_readme_shows_this_table() -> None:
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    for room in MAY_IMPORT:
        if (PACKAGE / room).is_dir():
            assert f"`{room}/`" in readme, f"README's architecture table lacks {room}/"
