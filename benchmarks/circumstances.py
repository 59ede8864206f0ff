"""Where and how a benchmark was run, as its raw results say it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any


def circumstances(command: str, *packages: str) -> dict[str, Any]:
    """Threads that the process may use, the machine, the versions of fairground and these packages, and the command."""
    return {
        "threads": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("fairground", *packages)},
        "command": command,
    }
