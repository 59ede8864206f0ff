"""`chat` and `score`: one model, asked and measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from fairground.cli.app import AllowPickle, Deterministic, Device, Opening, Threads, app, bar, err
from fairground.errors import DataError, RequestError
from fairground.types import ScoreRequest


@app.command(epilog='Example: fairground chat smollm2 -p "What is a vaccine?"')
def chat(
    model: Annotated[str, typer.Argument(help="The model to talk to.")],
    prompt: Annotated[str | None, typer.Option("-p", "--prompt", help="Print one answer to this and end.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens an answer.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of this total probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Choose among so many of the likeliest tokens; 0: all.")] = 0,
    min_p: Annotated[
        float, typer.Option(help="Leave out tokens below this share of the likeliest one's probability.")
    ] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 avoids words that were said.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End the answer before this text; may be repeated.")] = None,
    threads: Threads = None,
    device: Device = "cpu",
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Talk to a model. An empty line or ctrl-D ends the conversation."""
    from fairground.hub.reference import parse
    from fairground.types import Message, Request, Sampling

    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, max_tokens, tuple(stop or ()), seed)
    if prompt is not None and not prompt.strip():
        raise RequestError("The prompt is empty; give at least one character after -p.")
    settings = Opening(threads, device, deterministic, allow_pickle)
    reference = parse(model)
    settings.fetch(reference)
    with err.status(f"loading {model}"):
        generator = settings.open(reference)
    note = getattr(getattr(generator, "template", None), "note", None)
    if note:
        err.print(note, style="dim", highlight=False)
    history = [Message("system", system)] if system else []

    def answer(question: str) -> None:
        history.append(Message("user", question))
        stream = generator.submit(Request(tuple(history), sampling))
        try:
            for event in stream:
                print(event.text, end="", flush=True)
        except KeyboardInterrupt:
            stream.cancel()
        print()
        history.append(Message("assistant", stream.completion().text))

    try:
        if prompt is not None:
            answer(prompt)
            return
        while question := _ask():
            answer(question)
    finally:
        generator.close()


def _ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


@app.command(epilog="Example: fairground score smollm2 pairs.jsonl > scores.jsonl")
def score(
    model: Annotated[str, typer.Argument(help="The model whose likelihoods are wanted.")],
    file: Annotated[Path, typer.Argument(help='JSON lines of {"context": …, "continuation": …}.')],
    threads: Threads = None,
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
) -> None:
    """Print the log-likelihood of each continuation, as lm-evaluation-harness defines it, one JSON line a line.

    Scores never depend on which other lines are in the file.
    """
    from fairground.hub.reference import parse

    numbers, requests = zip(*_score_requests(file), strict=True)
    settings = Opening(threads, device, False, allow_pickle)
    reference = parse(model)
    settings.fetch(reference)
    generator = settings.open(reference)
    size, cut = 256, 0
    try:
        with bar("scoring") as shown:
            task = shown.add_task("scoring", total=len(requests))
            for at in range(0, len(requests), size):
                try:
                    scores = generator.score(requests[at : at + size])
                except RequestError as error:
                    if error.number is None:
                        raise
                    raise RequestError(f"{file}, line {numbers[at + error.number]}: {error.reason}") from None
                for scored in scores:
                    cut += scored.truncated > 0
                    fields = {"logprob": scored.logprob, "greedy": scored.greedy, "tokens": scored.tokens}
                    print(json.dumps({**fields, **({"truncated": scored.truncated} if scored.truncated else {})}))
                shown.update(task, completed=min(at + size, len(requests)))
    finally:
        generator.close()
    if cut:
        err.print(f"{cut} contexts were longer than the model sees and lost their beginning.", highlight=False)


def _score_requests(file: Path) -> Iterator[tuple[int, ScoreRequest]]:
    """Line numbers and what the lines ask for."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"{file} cannot be read ({reason}); check the file and try again.") from None
    if not any(line.strip() for line in lines):
        raise DataError(f'{file} is empty; give lines of {{"context": …, "continuation": …}}.')
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            context, continuation = fields["context"], fields["continuation"]
            good = isinstance(context, str) and isinstance(continuation, str) and continuation != ""
        except (ValueError, KeyError, TypeError, RecursionError):
            good = False
        if not good:
            raise DataError(
                f'{file}, line {number}: not {{"context": text, "continuation": text}} with a continuation; correct it.'
            )
        yield number, ScoreRequest(context, continuation)
