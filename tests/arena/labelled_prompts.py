"""Which prompts are of which category, labelled by hand: numbers of questions, never their text.

MT-bench's eighty first turns by `question_id`, and LLMFAO's nineteen prompts by `id`. `code` and most of `maths` are
MT-bench's own categories. Creative writing is what is read for its invention or its wording, and speaking as a
character; a role with a task ("act as a translator") is not. Instruction following is a demand on the answer's form.
Hard is what wants several steps, special knowledge, or several demands at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

MT_BENCH = {
    "code": {*range(121, 131)},
    "maths": {*range(111, 121), 97, 99},
    "creative-writing": {81, 84, 85, 86, 87, 88, 89, 91, 92, 98, 99, 100},
    "instruction-following": {
        *(82, 83, 84, 85, 87, 89, 92, 95, 98, 99, 131, 132, 133, 135, 136, 137, 138, 139, 140, 148, 150, 155, 156, 157),
        160,
    },
    "hard": {
        *(83, 84, 89, 93, 95, 99, 105, 106, 109, 110, 111, 113, 115, 116, 121, 124, 125, 126, 127, 128, 129, 130, 131),
        *(132, 133, 134, 135, 136, 137, 138, 139, 140, 142, 145, 147, 148, 151, 153, 154),
    },
}
LLMFAO = {
    "code": {1, 3, 15, 18, 19},
    "maths": {9},
    "creative-writing": {4, 7, 8, 12},
    "instruction-following": {1, 5, 8, 10, 13, 15, 20},
    "hard": {10, 18, 19, 20},
}


def labelled(shared: Path) -> Iterator[tuple[str, str, set[str]]]:
    """(name, prompt, categories) of each labelled prompt."""
    mt_bench = shared / "data" / "benchmarks" / "mt_bench_questions.jsonl"
    for line in mt_bench.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        number = row["question_id"]
        yield f"mt_bench {number}", row["turns"][0], {name for name, ids in MT_BENCH.items() if number in ids}
    llmfao = shared / "data" / "votes" / "llmfao_prompts.jsonl"
    for line in llmfao.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield f"llmfao {row['id']}", row["text"], {name for name, ids in LLMFAO.items() if row["id"] in ids}
