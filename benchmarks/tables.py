"""Writes the tables of benchmarks/README.md from the raw results beside it.

    .venv/bin/python benchmarks/tables.py

A test holds the page to what this writes, so a number can only change with its raw results.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
SPREAD = "{median} ({low} to {high})"
ROWS = {
    "load_s": ("ready to run, s (less is better)", "{:.2f}"),
    "prefill_tokens_per_s": ("prefill, tokens/s", "{:.0f}"),
    "decode_tokens_per_s": ("decoding, tokens/s", "{:.1f}"),
    "peak_memory_mb": ("peak memory, MB (less is better)", "{:.0f}"),
}
CONTESTANTS = {
    "fairground": "Fairground",
    "trainer": "Transformers' Trainer, `bf16=True`",
    "trainer_tuned": "the same, compiled",
    "nanogpt": "a loop like nanoGPT's",
    "nanogpt_compiled": "the same, compiled",
    "litgpt": "litgpt's model in that loop",
    "litgpt_compiled": "the same, compiled",
}
LESS_IS_BETTER = {"load_s", "peak_memory_mb"}


def against_transformers(raw: dict[str, Any]) -> str:
    """Medians with the lowest and highest of all rounds, and how many times better ours is."""
    about = raw["about"]
    lines = [
        f"{about['model']}; prompt {about['prompt_tokens']} tokens, output {about['output_tokens']}; "
        f"{circumstances(about, about['machine'])}",
        "",
        "| | Fairground | Transformers | times better |",
        "|---|---|---|---|",
    ]
    for name, (label, form) in ROWS.items():
        ours, theirs = raw["summary"][name]["fairground"], raw["summary"][name]["transformers"]
        ratio = theirs["median"] / ours["median"] if name in LESS_IS_BETTER else ours["median"] / theirs["median"]
        lines.append(f"| {label} | {spread(ours, form)} | {spread(theirs, form)} | {ratio:.2f} |")
    return "\n".join(lines)


def training(raw: dict[str, Any]) -> str:
    """A table for each shape: medians of the turns with the lowest and highest, beside our speed in the same round."""
    machine = next(iter(raw["shapes"].values()))["machine"]
    blocks = [circumstances(raw["about"], machine)]
    for name, shape in raw["shapes"].items():
        losses = shape["first_losses"].values()
        lines = [
            f"**{name}**: {shape['parameters'] / 1e6:.1f} million parameters, {shape['layers']} layers of width "
            f"{shape['width']}; a step is {shape['batch']} rows of {shape['context']} tokens. At the first step the "
            f"losses, from {min(losses):.4f} to {max(losses):.4f} nats, agree.",
            "",
            "| | tokens/s | ours is faster by | share of the matrix rate | peak memory, MB |",
            "|---|---|---|---|---|",
        ]
        for who, label in CONTESTANTS.items():
            if (row := shape["summary"].get(who)) is None:
                continue
            times = "" if who == "fairground" else spread(row["ours_over_theirs"], "{:.2f}")
            lines.append(
                f"| {label} | {spread(row['tokens_per_s'], '{:.0f}')} | {times} | {row['share_of_matrix_rate']:.0%} "
                f"| {row['peak_memory_mb']['median']:.0f} |"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


PREFERENCE = {
    "fairground": "Fairground",
    "trl": "TRL's DPOTrainer, its reference computed before",
    "trl_default": "the same as it comes, its reference in the loop",
}
PAIRS = {
    "equal": "prompts of 128 tokens, answers of 64",
    "mixed": "prompts of 32 to 224 tokens, answers of 16 to 120",
}


def dpo(raw: dict[str, Any]) -> str:
    """A table for each kind of pairs and precision."""
    blocks = [circumstances(raw["about"], raw["about"]["machine"])]
    for part in raw["parts"]:
        norms, size = part["first_gradients"].values(), part["parameters"] / 1e6
        lines = [
            f"**{part['shape']}, {part['precision']}, {PAIRS[part['lengths']]}**: {size:.1f} million parameters; a "
            f"step is {part['batch']} pairs of {part['predictions']:,} predictions in all. At the first step the "
            f"gradients' lengths, from {min(norms):.4f} to {max(norms):.4f}, agree.",
            "",
            "| | tokens/s | ours is faster by | peak memory, MB |",
            "|---|---|---|---|",
        ]
        for who, label in PREFERENCE.items():
            row = part["summary"][who]
            times = "" if who == "fairground" else spread(row["ours_over_theirs"], "{:.2f}")
            speed, memory = spread(row["tokens_per_s"], "{:.0f}"), row["peak_memory_mb"]["median"]
            lines.append(f"| {label} | {speed} | {times} | {memory:.0f} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def distillation_epochs(raw: dict[str, Any]) -> str:
    """Tokens per second of a student from stored logits and with its teacher in the loop, by turn."""
    about, read = raw["about"], raw["read"]
    lines = [
        f"Teacher {about['teacher']}, {read['parameters'] / 1e6:.0f} million parameters; steps of {about['batch']} "
        f"tokens in stretches of at most {about['context']}; {circumstances(about, about['machine'])}",
        "",
        "| student | stored, tokens/s | teacher in the loop, tokens/s | times faster | peak memory, MB, of both |",
        "|---|---|---|---|---|",
    ]
    for student, sides in raw["turns"].items():
        ours, theirs = ([turn["tokens_per_s"] for turn in sides[side]] for side in ("stored", "online"))
        memory = ", ".join(
            f"{median([turn['peak_memory_mb'] for turn in sides[side]]):,.0f}" for side in ("stored", "online")
        )
        times = of([a / b for a, b in zip(ours, theirs, strict=True)], "{:.1f}")
        size = f"{student}, {sides['stored'][0]['parameters'] / 1e6:.1f} million"
        lines.append(f"| {size} | {of(ours, '{:.0f}')} | {of(theirs, '{:.0f}')} | {times} | {memory} |")
    mass = ", ".join(f"{k}: {share:.0%}" for k, share in read["mass"].items())
    lines += [
        "",
        f"Once, the teacher reads {read['tokens_per_s']:.0f} tokens/s and leaves {read['bytes_per_token']} bytes of "
        f"each. Its probability within its k likeliest tokens, by k: {mass}.",
    ]
    return "\n".join(lines)


def lora(raw: dict[str, Any]) -> str:
    """A row for each shape and precision: both sides' turns, and our speed and memory beside theirs."""
    about, shapes = raw["about"], raw["shapes"]
    machine = next(iter(next(iter(shapes.values())).values()))["machine"]
    lines = [
        f"Adapters of rank {about['rank']} in every linear layer; {circumstances(about, machine)}",
        "",
        "| | tokens/s | Trainer's and peft's | ours is faster by | peak memory, MB | theirs |",
        "|---|---|---|---|---|---|",
    ]
    for name, precisions in shapes.items():
        for precision, shape in precisions.items():
            ours, theirs = shape["summary"]["fairground"], shape["summary"]["trainer"]
            speeds = [spread(side["tokens_per_s"], "{:.0f}") for side in (ours, theirs)]
            memory = [f"{side['peak_memory_mb']['median']:.0f}" for side in (ours, theirs)]
            times = spread(theirs["ours_over_theirs"], "{:.2f}")
            what = f"{name}, {shape['parameters'] / 1e6:.0f}M, {shape['batch']} rows of {shape['context']}, {precision}"
            lines.append(f"| {what} | {' | '.join(speeds)} | {times} | {' | '.join(memory)} |")
    return "\n".join(lines)


OWN = {
    "engine_first_ms": ("first token of a prompt of 50, from the engine, ms", "{:.0f}"),
    "http_first_ms": ("the same through HTTP, ms", "{:.0f}"),
    "prefix_new_ms": ("first token of a prompt of 1,000, ms", "{:.0f}"),
    "prefix_again_ms": ("the same where its first 1,000 are cached, ms", "{:.0f}"),
    "prefix_ratio": ("… as a share", "{:.1%}"),
    "cache_waste": ("slots in held blocks without a token, beside 31 chats", "{:.1%}"),
    "memory_after_a_tenth_mb": ("resident memory after a tenth of the requests, MB", "{:.0f}"),
    "memory_after_all_mb": ("… after all of them, MB", "{:.0f}"),
    "requests": ("requests", "{:.0f}"),
}


def serving(raw: dict[str, Any]) -> str:
    """Output tokens per second of all chats together, by turn, and what one server adds and keeps."""
    about, turns = raw["about"], raw["rounds"]
    lines = [
        f"{about['model']}; 32 chats at a time; {circumstances(about, about['machine'])}",
        "",
        "| | output tokens/s | ours is faster by | first token, s (median of chats) |",
        "|---|---|---|---|",
    ]
    ours = [turn["output_tokens_per_s"] for turn in turns["fairground"]]
    for side, results in turns.items():
        speeds = [turn["output_tokens_per_s"] for turn in results]
        times = "" if side == "fairground" else of([a / b for a, b in zip(ours, speeds, strict=True)], "{:.2f}")
        firsts = of([turn["first_token_s"] for turn in results], "{:.1f}")
        lines.append(f"| {side.replace('fairground', 'Fairground')} | {of(speeds, '{:.0f}')} | {times} | {firsts} |")
    lines += ["", "| | ours |", "|---|---|"]
    lines += [
        f"| {label} | {form.format(raw['own'][name])} |" for name, (label, form) in OWN.items() if name in raw["own"]
    ]
    return "\n".join(lines)


def scoring(raw: dict[str, Any]) -> str:
    """Items per second, by turn, with the accuracy that each side found."""
    about = raw["about"]
    lines = [
        f"{about['model']}; {circumstances(about, about['machine'])}",
        "",
        "| | items | Fairground, items/s | the harness, items/s (batch) | times faster | accuracy, ours and its |",
        "|---|---|---|---|---|---|",
    ]
    for task, found in raw["tasks"].items():
        ours, theirs = found["rounds"]["fairground"], found["rounds"]["harness"]
        a, b = ([turn["items_per_s"] for turn in side] for side in (ours, theirs))
        times = of([x / y for x, y in zip(a, b, strict=True)], "{:.2f}")
        right = f"{ours[0]['accuracy']:.1%}, {theirs[0]['accuracy']:.1%}"
        theirs_shown = f"{of(b, '{:.2f}')} ({found['batch']})"
        lines.append(f"| {task} | {ours[0]['items']} | {of(a, '{:.2f}')} | {theirs_shown} | {times} | {right} |")
    return "\n".join(lines)


def rank(raw: dict[str, Any]) -> str:
    """Wall clock of each command, by turn."""
    rounds, about = raw["rounds"], raw["about"]
    lines = [
        f"{about['model']}; {circumstances(about, about['machine'])}",
        "",
        "| | items | from command to report, s | the harness's over it | accuracy |",
        "|---|---|---|---|---|",
    ]
    labels = {"fairground": "Fairground, `--no-times`", "with_times": "Fairground", "harness": "the harness"}
    for side, label in labels.items():
        turns = [turn[side] for turn in rounds]
        ratios = [turn["harness"]["wall_s"] / turn[side]["wall_s"] for turn in rounds]
        times = "" if side == "harness" else of(ratios, "{:.2f}")
        seconds = of([turn["wall_s"] for turn in turns], "{:.0f}")
        lines.append(f"| {label} | {turns[0]['items']} | {seconds} | {times} | {turns[0]['accuracy']:.1%} |")
    return "\n".join(lines)


def report(raw: dict[str, Any]) -> str:
    """A large run's page, as a browser opens it, and its comparisons."""
    about, rounds = raw["about"], raw["rounds"]
    rows = [
        ("size of the page, MB", f"{raw['bytes'] / 1e6:.2f}"),
        ("items that are on it", raw["shown"]),
        ("page stands (DOMContentLoaded), ms", of([turn["page_ms"] for turn in rounds], "{:.0f}")),
        ("first paint, ms", of([turn["paint_ms"] for turn in rounds], "{:.0f}")),
        ("items stand, ms", of([turn["items_ms"] for turn in rounds], "{:.0f}")),
        ("writing the page, s", f"{raw['built_s']:.1f}"),
        ("comparing all pairs, 10,000 resamples, s", of([turn["comparing_s"] for turn in rounds], "{:.2f}")),
    ]
    lines = [f"{about['models']} models, {about['items']:,} items; {circumstances(about, about['machine'])}", ""]
    return "\n".join([*lines, "| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in rows)])


def arena_votes(raw: dict[str, Any]) -> str:
    """Votes a second of each way of asking, with the times to the acknowledgement."""
    about = raw["about"]
    labels = {
        "vote": f"a vote, {about['clients']} people at once",
        "alone": "a vote, one person alone",
        "battle": f"a whole battle (opened, a turn kept, voted on), {about['clients']} people at once",
    }
    lines = [
        f"{about['stored']:,} votes stored before; rounds of {about['seconds']:g} s; "
        f"{circumstances(about, about['machine'])}",
        "",
        "| | votes/s | acknowledged after, ms (p50) | ms (p99) |",
        "|---|---|---|---|",
    ]
    for name, label in labels.items():
        columns = [of([turn[key] for turn in raw["rounds"][name]], "{:.0f}") for key in ("per_s", "p50_ms", "p99_ms")]
        lines.append(f"| {label} | {' | '.join(columns)} |")
    lines += [
        "",
        f"The disk alone syncs {of(raw['disk'], '{:.0f}')} times a second; the audit after each round reads "
        f"{of(raw['audited_per_s'], '{:,.0f}')} entries a second.",
    ]
    return "\n".join(lines)


RATED = {
    "fairground": "Fairground",
    "fairground_names": "the same, from names",
    "arena_rank": "arena-rank",
    "evalica": "evalica (no intervals)",
    "fastchat": "FastChat's method, one fit of 100",
    "fairground_style": "Fairground, with style",
    "arena_rank_style": "arena-rank, with style",
    "fairground_voters": "Fairground, clustered by 400,000 voters",
    "fairground_outside": "Fairground, both-bad outside",
}


def ratings(raw: dict[str, Any]) -> str:
    """Seconds from battles to ratings, by turn, and how far each side's ratings lie from ours."""
    about, seconds, found = raw["about"], raw["seconds"], raw["ratings"]
    lines = [
        f"{about['battles']:,} battles of {about['models']} models; {circumstances(about, about['machine'])}",
        "",
        "| | s | times ours | furthest rating from ours, points |",
        "|---|---|---|---|",
    ]
    for side, label in RATED.items():
        if not (turns := seconds.get(side)):
            continue
        ours = "fairground_style" if side.endswith("style") else "fairground"
        peer = not side.startswith("fairground")
        times = f"{median(turns) / median(seconds[ours]):.0f}" if peer else ""
        apart = max(abs(a - b) for a, b in zip(found[side], found[ours], strict=True)) if peer else None
        lines.append(f"| {label} | {of(turns, '{:.2f}')} | {times} | {'' if apart is None else f'{apart:.3f}'} |")
    return "\n".join([*lines, "", f"A vote moves the online ratings in {raw['online_us']:.0f} microseconds."])


def arena_page(raw: dict[str, Any]) -> str:
    """The times of the leaderboard's answers by page, and how long the site takes to read its log."""
    about, answers = raw["about"], raw["answers_ms"]
    lines = [
        f"{about['votes']:,} votes on {about['models']} models stored; {about['per_second']:g} requests/s on "
        f"{about['connections']} connections for {about['seconds']:g} s while {about['votes_per_second']:g} votes/s "
        f"arrive; {circumstances(about, about['machine'])}",
        "",
        "| page | answers | p50, ms | p95, ms | p99, ms | longest, ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in answers.items():
        numbers = [f"{found[key]:.1f}" for key in ("p50", "p95", "p99", "max")]
        lines.append(f"| {name} | {found['n']:,} | {' | '.join(numbers)} |")
    lines += [
        "",
        f"The leaderboard was there {raw['ready_s']:.0f} s after the site's start, which reads the whole log; the "
        f"site then takes {raw['peak_memory_mb']:,.0f} MB. The ratings shown were {raw['age_votes']['median']:.0f} "
        f"votes behind the log (median; at most {raw['age_votes']['max']}).",
    ]
    return "\n".join(lines)


def of(values: list[float], form: str) -> str:
    """The median with the lowest and highest; a single value alone."""
    if len(values) == 1:
        return form.format(values[0])
    return spread({"median": median(values), "low": min(values), "high": max(values)}, form)


def spread(values: dict[str, float], form: str) -> str:
    return SPREAD.format(**{name: form.format(value) for name, value in values.items()})


def circumstances(about: dict[str, Any], machine: str) -> str:
    """Where and how it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    threads = f"{about['threads']} thread{'s' if about['threads'] != 1 else ''}"
    return f"{threads}, {machine}; {versions}; `{about['command']}`."


TABLES = {
    "against_transformers": against_transformers,
    "arena_page": arena_page,
    "arena_votes": arena_votes,
    "dpo": dpo,
    "distillation_epochs": distillation_epochs,
    "lora": lora,
    "rank": rank,
    "ratings": ratings,
    "report": report,
    "scoring": scoring,
    "serving": serving,
    "training": training,
    "training_cuda": training,
}


def page(text: str) -> str:
    """The page with every table between its marks written anew."""
    for name, write in TABLES.items():
        file = HERE / "results" / f"{name}.json"
        table = write(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else "Not measured yet."
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    readme = HERE / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8")), encoding="utf-8")
