"""How a person names a model: from the catalogue, by the name of one made here, a path, `hf:…`, `openai:…`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairground.errors import UnknownModel
from fairground.hub.catalogue import resolve
from fairground.hub.made import made_folder

PRECISIONS = ("float32", "bfloat16", "int8", "int4")
UNIFORM = "uniform"  # the floor: a guesser that needs no weights


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed name. `name` is what people see ("smollm2#int4"); `target` what is opened; `shots` None: not said."""

    name: str
    kind: Literal["catalogue", "path", "remote", "uniform"]
    target: str
    precision: str = "bfloat16"
    shots: int | None = None


def parse(text: str) -> Reference:
    """Reads NAME[#PRECISION][,shots=K].

    Raises UnknownModel for a name that stands for nothing (suggesting the nearest), and for an unknown precision.
    """
    name, shots = text, None
    found = re.search(r",shots=(\d+)$", text)
    if found:
        name, shots = text[: found.start()], int(found.group(1))
    if name.startswith("openai:"):
        return Reference(name, "remote", name, shots=shots)
    target, hash_, precision = name.rpartition("#")
    if not hash_:
        target, precision = name, "bfloat16"
    if precision not in PRECISIONS:
        raise UnknownModel(f"{name!r} asks for the precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    if target == UNIFORM:
        return Reference(UNIFORM, "uniform", target, shots=shots)
    if target.startswith(("./", "../", "/", "~")) or target in (".", "..") or target.endswith(".gguf"):
        path = Path(target).expanduser()
        if not path.exists():
            raise UnknownModel(f"There is no model folder or .gguf file at {target}; check the path.")
        return Reference(name, "path", str(path), precision, shots)
    folder = any(Path(target, name).is_file() for name in ("config.json", "adapter_config.json"))
    if made := made_folder(target):
        return Reference(name, "path", str(made), precision, shots)
    if not target.startswith("hf:") and folder:
        raise UnknownModel(f"{target!r} is not in the catalogue, but it is a folder here; write ./{target} to use it.")
    resolve(target)
    return Reference(name, "catalogue", target, precision, shots)
