"""A teacher writes, so that a student can learn from its text (sequence distillation; Kim and Rush, 2016, section 3.2).

What is written is kept with the prompt, the seed and the writer, one JSON line each, in the order of the prompts; a run
that was cut short goes on where it stopped and ends with the same file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from fairground.errors import DataError
from fairground.types import Generator, Message, Request, Sampling

AT_A_TIME = 128  # requests handed to the generator; so many are written again at most after a kill


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the teacher is asked: text to write on, or a conversation. `max_tokens` None leaves it to the sampling."""

    id: str
    prompt: str | tuple[Message, ...]
    seed: int
    max_tokens: int | None = None


def read_prompts(path: Path) -> list[Prompt]:
    """JSON lines of {"prompt": text or [{"role", "content"}…]} and perhaps "id", "seed", "max_tokens".

    Raises DataError, which names file and line, for a malformed or empty file and for an id that comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{path} cannot be read ({reason}); check the file and try again.") from None
    prompts: list[Prompt] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = _prompt(json.loads(line), number)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f'{path}, line {number}: not {{"prompt": text or a list of {{"role", "content"}}}}; correct it.'
            ) from None
        if prompt.id in seen:
            raise DataError(f"{path}, line {number}: the id {prompt.id!r} came before; give every prompt its own.")
        seen.add(prompt.id)
        prompts.append(prompt)
    if not prompts:
        raise DataError(f"{path} holds no prompts; give one JSON line for each.")
    return prompts


def _prompt(row: dict[str, Any], number: int) -> Prompt:
    asked = row["prompt"]
    if isinstance(asked, list):
        turns = tuple(Message(turn["role"], turn["content"]) for turn in asked)
        good = bool(turns) and all(t.role in ("system", "user", "assistant") and t.content for t in turns)
        prompt: str | tuple[Message, ...] = turns
    else:
        prompt, good = asked, isinstance(asked, str) and bool(asked.strip())
    seed, most = row.get("seed", number), row.get("max_tokens")
    if not good or not isinstance(seed, int) or not (most is None or (isinstance(most, int) and most > 0)):
        raise ValueError
    return Prompt(str(row.get("id", number)), prompt, seed, most)


def write(
    teacher: Generator,
    prompts: Sequence[Prompt],
    out: Path,
    sampling: Sampling,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Has the teacher answer every prompt and appends what it wrote to `out`; returns how many it wrote now.

    Each prompt's own seed and max_tokens replace the sampling's. Raises DataError where `out` holds what another
    writer, another sampling or other prompts gave.
    """
    settings = {
        "writer": teacher.info.name,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    done = before = _written(out, prompts, settings)
    left = iter(prompts[done:])
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        while some := list(islice(left, AT_A_TIME)):
            for row in _answers(teacher, some, sampling, settings):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                done += 1
                if progress:
                    progress(done, len(prompts))
            file.flush()
            os.fsync(file.fileno())
    return done - before


def _answers(
    teacher: Generator, prompts: Sequence[Prompt], sampling: Sampling, settings: dict[str, Any]
) -> Iterable[dict[str, Any]]:
    streams = [
        teacher.submit(
            Request(p.prompt, replace(sampling, seed=p.seed, max_tokens=p.max_tokens or sampling.max_tokens))
        )
        for p in prompts
    ]
    for prompt, stream in zip(prompts, streams, strict=True):
        answer = stream.completion()
        asked = prompt.prompt
        shown = asked if isinstance(asked, str) else [{"role": m.role, "content": m.content} for m in asked]
        yield {
            "id": prompt.id,
            "prompt": shown,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "seed": prompt.seed,
            **settings,
        }


def _written(out: Path, prompts: Sequence[Prompt], settings: dict[str, Any]) -> int:
    """How many of the prompts are answered already; a torn last line is cut off."""
    if not out.exists():
        return 0
    kept = 0
    done = 0
    with out.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                same = row["id"] == prompts[done].id and all(row[key] == value for key, value in settings.items())
            except (ValueError, KeyError, TypeError, IndexError):
                same = False
            if not same:
                raise DataError(
                    f"{out}, line {done + 1}: written for another prompt or by another writer, so nothing was added; "
                    "give a new file."
                )
            kept += len(line)
            done += 1
    os.truncate(out, kept)
    return done
