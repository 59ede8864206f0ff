"""Makes the tables of `fairground/arena/record/` from the published files: votes, scores, durations, names, makers.

    python tools/make_record.py FOLDER [--out fairground/arena/record]

FOLDER holds `llmfao.csv`, `llmfao_models.jsonl`, `llmfao_results.jsonl` and `arena_bench_v1_scores.csv`. The same input
gives the same bytes. No prompt and no answer is written; `SOURCES.md` in the output folder, which people write, says
where each table comes from and what was changed.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

# Where a model's weights were published, as a repository on huggingface.co; a model that is not here is proprietary:
# it was served, and its weights were never published. Adapters and differences to published weights count as weights,
# whatever their licence allows, because anyone could run the model on their own machine.
WEIGHTS = {
    "Airoboros L2 70B": "jondurbin/airoboros-l2-70b-2.1",
    "Alpaca (7B)": "tatsu-lab/alpaca-7b-wdiff",
    "Chronos Hermes (13B)": "Austism/chronos-hermes-13b",
    "Code Llama Instruct (7B)": "codellama/CodeLlama-7b-Instruct-hf",
    "Code Llama Instruct (13B)": "codellama/CodeLlama-13b-Instruct-hf",
    "Code Llama Instruct (34B)": "codellama/CodeLlama-34b-Instruct-hf",
    "Dolly v2 (3B)": "databricks/dolly-v2-3b",
    "Dolly v2 (7B)": "databricks/dolly-v2-7b",
    "Dolly v2 (12B)": "databricks/dolly-v2-12b",
    "Falcon Instruct (7B)": "tiiuae/falcon-7b-instruct",
    "Falcon Instruct (40B)": "tiiuae/falcon-40b-instruct",
    "GPT-NeoXT-Chat-Base (20B)": "togethercomputer/GPT-NeoXT-Chat-Base-20B",
    "Guanaco (13B)": "timdettmers/guanaco-13b",
    "Guanaco (33B)": "timdettmers/guanaco-33b",
    "Guanaco (65B)": "timdettmers/guanaco-65b",
    "Koala (13B)": "young-geng/koala",
    "LLaMA 2 SFT v10 (70B)": "OpenAssistant/llama2-70b-oasst-sft-v10",
    "LLaMA-2-Chat (7B)": "meta-llama/Llama-2-7b-chat-hf",
    "LLaMA-2-Chat (13B)": "meta-llama/Llama-2-13b-chat-hf",
    "LLaMA-2-Chat (70B)": "meta-llama/Llama-2-70b-chat-hf",
    "MPT-Chat (7B)": "mosaicml/mpt-7b-chat",
    "MPT-Chat (30B)": "mosaicml/mpt-30b-chat",
    "Mythalion 13B": "PygmalionAI/mythalion-13b",
    "MythoMax-L2 (13B)": "Gryphe/MythoMax-L2-13b",
    "Open-Assistant Pythia SFT-4 (12B)": "OpenAssistant/oasst-sft-4-pythia-12b-epoch-3.5",
    "Open-Assistant StableLM SFT-7 (7B)": "OpenAssistant/stablelm-7b-sft-v7-epoch-3",
    "Platypus-2 Instruct (70B)": "garage-bAInd/Platypus2-70B-instruct",
    "Pythia-Chat-Base (7B)": "togethercomputer/Pythia-Chat-Base-7B",
    "Qwen-Chat (7B)": "Qwen/Qwen-7B-Chat",
    "ReMM SLERP L2 13B": "Undi95/ReMM-SLERP-L2-13B",
    "RedPajama-INCITE Chat (3B)": "togethercomputer/RedPajama-INCITE-Chat-3B-v1",
    "RedPajama-INCITE Chat (7B)": "togethercomputer/RedPajama-INCITE-7B-Chat",
    "StarCoderChat Alpha (16B)": "HuggingFaceH4/starchat-alpha",
    "Vicuna v1.3 (7B)": "lmsys/vicuna-7b-v1.3",
    "Vicuna v1.3 (13B)": "lmsys/vicuna-13b-v1.3",
    "Vicuna v1.5 (13B)": "lmsys/vicuna-13b-v1.5",
    "Vicuna-FastChat-T5 (3B)": "lmsys/fastchat-t5-3b-v1.0",
    "Llama-2-70b-chat": "meta-llama/Llama-2-70b-chat-hf",
    "Mistral-7B-Instruct-v0.1": "mistralai/Mistral-7B-Instruct-v0.1",
    "Mixtral-8x7B-Instruct-v0.1": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "Starling-LM-7B-alpha": "berkeley-nest/Starling-LM-7B-alpha",
    "llama-13b": "huggyllama/llama-13b",
    "openchat_3.5": "openchat/openchat_3.5",
    "vicuna-33b-v1.3": "lmsys/vicuna-33b-v1.3",
}
# The source's makers, put right (Koala is Berkeley's, not LMSYS's) or spelt as the makers spell themselves.
MAKERS = {"Koala (13B)": "UC Berkeley"}
SPELLING = {"LM Sys": "LMSYS", "Mosaic ML": "MosaicML", "TII UAE": "TII", "undi95": "Undi95", "Qwen": "Alibaba"}
# The second table's source gives no makers.
SCORED_MAKERS = {
    "Llama-2-70b-chat": "Meta",
    "Mistral-7B-Instruct-v0.1": "Mistral AI",
    "Mixtral-8x7B-Instruct-v0.1": "Mistral AI",
    "Starling-LM-7B-alpha": "UC Berkeley",
    "claude-1": "Anthropic",
    "claude-2": "Anthropic",
    "claude-2.1": "Anthropic",
    "claude-instant-1": "Anthropic",
    "gpt-3.5-turbo": "OpenAI",
    "gpt-3.5-turbo-1106": "OpenAI",
    "gpt-4-0314": "OpenAI",
    "gpt-4-1106-preview": "OpenAI",
    "llama-13b": "Meta",
    "openchat_3.5": "OpenChat",
    "palm-2-chat-bison-001": "Google",
    "vicuna-33b-v1.3": "LMSYS",
}
SIDES = {"left": "a", "right": "b", "tie": "tie"}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_jsonl(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def access(model: str) -> tuple[str, str]:
    weights = WEIGHTS.get(model, "")
    return ("open" if weights else "proprietary"), weights


def make_votes(source: Path, out: Path) -> None:
    """Votes by the models' numbers in the source, and the models that were voted on with how fast they answered."""
    votes = read_csv(source / "llmfao.csv")
    write(
        out / "llmfao_votes.csv",
        ("model_a", "model_b", "winner", "voter"),
        ((vote["model_x"], vote["model_y"], SIDES[vote["winner"]], vote["worker"]) for vote in votes),
    )
    voted = {vote[side] for vote in votes for side in ("model_x", "model_y")}
    duration: dict[str, list[float]] = defaultdict(list)
    rate: dict[str, list[float]] = defaultdict(list)
    for answer in read_jsonl(source / "llmfao_results.jsonl"):
        answerer = str(answer["model"])
        duration[answerer].append(float(str(answer["duration"])))
        rate[answerer].append(float(str(answer["rate"])))
    rows = []
    for model in read_jsonl(source / "llmfao_models.jsonl"):
        number, name = str(model["id"]), str(model["name"])
        if number not in voted:
            continue
        maker = MAKERS.get(name, SPELLING.get(str(model["org"]), str(model["org"])))
        written = [value for value in rate[number] if value > 0]  # 0: nothing was written, so nothing was timed
        numbers = (len(duration[number]), round(median(duration[number])), round(median(written), 2))
        rows.append((int(number), name, maker, *access(name), *numbers))
    header = ("id", "model", "maker", "access", "weights", "answers", "response_ms", "tokens_per_s")
    write(out / "llmfao_models.csv", header, sorted(rows))


def make_scores(source: Path, out: Path) -> None:
    """Scores with the questions numbered from 1 in the order of their ids, which are hashes."""
    scores = read_csv(source / "arena_bench_v1_scores.csv")
    number = {question: i for i, question in enumerate(sorted({row["question_id"] for row in scores}), start=1)}
    rows = []
    for row in scores:
        score = float(row["score"])
        if score != int(score) or not 1 <= score <= 10:
            raise SystemExit(f"A score is {row['score']}, but must be a whole number from 1 to 10; check the source.")
        rows.append((number[row["question_id"]], row["model"], int(score)))
    write(out / "arena_hard_scores.csv", ("question", "model", "score"), sorted(rows))
    models = ((model, SCORED_MAKERS[model], *access(model)) for model in sorted({row["model"] for row in scores}))
    write(out / "arena_hard_models.csv", ("model", "maker", "access", "weights"), models)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="the folder with the published files")
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=here / "fairground" / "arena" / "record")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    make_votes(arguments.source, arguments.out)
    make_scores(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
