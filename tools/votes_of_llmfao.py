"""Puts the LLMFAO study's files (D. Ustalov, 2023, CC-BY-4.0) into the form that `fairground judge` reads.

python tools/votes_of_llmfao.py FOLDER OUT, where FOLDER holds llmfao.csv, llmfao_results.jsonl, llmfao_prompts.jsonl,
llmfao_gpt3_comparisons.csv and llmfao_gpt4_comparisons.csv. Writes OUT/votes.jsonl (a line a vote) and the verdicts of
the two judges, OUT/gpt-3.5.jsonl and OUT/gpt-4.jsonl.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def votes(folder: Path) -> Iterator[dict[str, str]]:
    """Each vote with the texts that it is about."""
    prompts = {prompt["id"]: prompt["text"] for prompt in objects(folder / "llmfao_prompts.jsonl")}
    answers = {(one["prompt"], one["model"]): one["result"] for one in objects(folder / "llmfao_results.jsonl")}
    for row in rows(folder / "llmfao.csv"):
        prompt, x, y = (int(row[key]) for key in ("prompt", "model_x", "model_y"))
        yield {
            "pair": row["id"],
            "prompt": prompts[prompt],
            "answer_a": answers[prompt, x],
            "answer_b": answers[prompt, y],
            "winner": row["winner"],
            "voter": row["worker"],
        }


def verdicts(path: Path) -> Iterator[dict[str, str]]:
    for row in rows(path):
        yield {"pair": row["id"], "winner": row["winner"]}


def write(path: Path, lines: Iterable[Mapping[str, str]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def main(folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write(out / "votes.jsonl", votes(folder))
    write(out / "gpt-3.5.jsonl", verdicts(folder / "llmfao_gpt3_comparisons.csv"))
    write(out / "gpt-4.jsonl", verdicts(folder / "llmfao_gpt4_comparisons.csv"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
