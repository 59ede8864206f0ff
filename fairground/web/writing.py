"""A turn of a conversation: every model is asked at once, and what they write is handed on as it comes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from starlette.concurrency import run_in_threadpool

from fairground.arena.disclosure import discloses
from fairground.errors import ArenaRefusal, RequestError
from fairground.serving.refusals import Refusal
from fairground.serving.running import Event, Running
from fairground.types import Completion, Generator, Request, Sampling, TokenEvent
from fairground.web.facts import line
from fairground.web.markdown import as_html
from fairground.web.site import Site
from fairground.web.talks import Answer, Talk, Turn

MOST_TURNS = 20
MOST_REGENERATED = 3  # of a battle: whoever asks until one of them fails has not compared the two
SEEDS = 2**32

DIED = (
    "One of the two models broke down, so this battle is set aside: nobody can vote on it, and it counts for nothing. "
    "Start a new round."
)
REVEALED = (
    "An answer said which model or maker it is of, so this battle is not blind any more and is set aside: nobody can "
    "vote on it, and it counts for nothing. Start a new round."
)
TOO_LONG = (
    "One of the two models cannot take a conversation this long. Vote on what is there, shorten the prompt, or start "
    "a new round."
)


async def write(site: Site, talk: Talk, prompt: str, *, again: bool = False) -> AsyncGenerator[dict[str, Any], None]:
    """Has all models of a conversation answer the prompt; `again`: in the place of the last turn's answers.

    Gives, as they come: `{"begun": true}` once it is sure to be tried; `{"side", "piece"}`; `{"side", "html", "text",
    "facts"}` for each whole answer; and at the end `{"end", "votable", "said"}`, or `{"aside"}` where the battle is set
    aside, or `{"error"}` where the turn came to nothing. A turn whose reader goes away is dropped.

    Raises ArenaRefusal (409) before the first of these where the conversation cannot go on.
    """
    _may_go_on(talk, again)
    talk.writing = True
    talk.stop.clear()
    try:
        yield {"begun": True}
        end_metering = site.metering.start([site.models.offers[name].meter for name in talk.models])
        before = talk.turns.pop() if again else None
        turn = Turn(prompt, [])
        answers: dict[int, Answer] = {}
        try:
            async with aclosing(_events(site, talk, prompt, answers)) as events:
                async for event in events:
                    yield event
            turn.answers = [answers[side] for side in range(len(talk.models))]
        finally:
            turn.energy, turn.why = end_metering()
            if len(turn.answers) < len(talk.models) and before is not None:
                talk.turns.append(before)
        talk.turns.append(turn)
        talk.regenerated += again
        kept = await run_in_threadpool(_keep, site, talk)
        yield {"end": True, "votable": talk.mode != "chat" and talk.whole, "said": _said(talk, kept)}
    except _Aside as aside:
        talk.state, talk.why = "set aside", str(aside)
        await run_in_threadpool(_set_aside, site, talk.id, aside.tag)
        yield {"aside": str(aside)}
    except (Refusal, RequestError) as error:
        yield {"error": TOO_LONG if isinstance(error, RequestError) and talk.blind else str(error)}
    finally:
        talk.writing = False


class _Aside(Exception):
    """The battle ends without a vote. `tag` says why in the log."""

    def __init__(self, tag: str, said: str) -> None:
        super().__init__(said)
        self.tag = tag


def _may_go_on(talk: Talk, again: bool) -> None:
    if talk.writing:
        raise ArenaRefusal("The answers to the prompt before are still being written; wait for them.", 409)
    if talk.state != "open":
        raise ArenaRefusal(talk.why or "This battle was voted on, so it does not go on; start a new round.", 409)
    if again and not talk.turns:
        raise ArenaRefusal("There is no answer yet that could be written anew; send a prompt.", 409)
    if again and talk.mode == "battle" and talk.regenerated >= MOST_REGENERATED:
        raise ArenaRefusal(f"{MOST_REGENERATED} new pairs of answers are the most in a battle; vote on these.", 409)
    if not again and len(talk.turns) >= MOST_TURNS:
        raise ArenaRefusal(f"{MOST_TURNS} turns are the most of a conversation; start a new one.", 409)


async def _events(
    site: Site, talk: Talk, prompt: str, answers: dict[int, Answer]
) -> AsyncGenerator[dict[str, Any], None]:
    """Pieces and whole answers; fills `answers`. Raises _Aside, Refusal and RequestError."""
    models = [site.models.generators.get(name) for name in talk.models]
    if None in models:
        raise _Aside("engine_died", DIED) if talk.mode == "battle" else Refusal(503, "A model is not there any more.")
    requests = [_request(talk, side, prompt) for side in range(len(models))]
    pieces: list[list[str]] = [[] for _ in models]
    began = time.perf_counter()
    async with aclosing(_together(site.running, models, requests, talk.stop)) as events:  # type: ignore[arg-type]
        async for side, event in events:
            if isinstance(event, TokenEvent):
                if event.text:
                    pieces[side].append(event.text)
                    yield {"side": side, "piece": event.text}
                continue
            if isinstance(event, Completion):
                answers[side] = Answer.of(event)
            else:
                answers[side] = _failed(site, talk, side, event, "".join(pieces[side]))
            if talk.mode == "battle" and discloses(answers[side].text, _telling(site)):
                raise _Aside("revealed", REVEALED)
            yield _whole(talk, side, answers[side], event if isinstance(event, Exception) else None)
    for side in range(len(models)):  # those that were stopped
        if side not in answers:
            text = "".join(pieces[side])
            answers[side] = Answer(text, "cancelled", seconds=time.perf_counter() - began)
            yield _whole(talk, side, answers[side])


async def _together(
    running: Running, models: Sequence[Generator], requests: Sequence[Request], stop: asyncio.Event
) -> AsyncGenerator[tuple[int, Event | Exception], None]:
    """What all models write, as it comes, each with its number; ended early by `stop`.

    A Completion or an exception is the last of each.
    """
    queue: asyncio.Queue[tuple[int, Event | Exception] | None] = asyncio.Queue()

    async def follow(side: int) -> None:
        try:
            async with aclosing(running.follow(models[side], [requests[side]])) as events:  # type: ignore[type-var]
                async for _, event in events:
                    queue.put_nowait((side, event))
        except Exception as error:
            queue.put_nowait((side, error))

    async def stopped() -> None:
        await stop.wait()
        queue.put_nowait(None)

    tasks = [asyncio.create_task(work) for work in (*map(follow, range(len(models))), stopped())]
    left = len(models)
    try:
        while left and (found := await queue.get()) is not None:
            left -= not isinstance(found[1], TokenEvent)
            yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _request(talk: Talk, side: int, prompt: str) -> Request:
    choices = talk.choices
    seed = secrets.randbelow(SEEDS) if choices.seed is None else choices.seed
    sampling = Sampling(
        temperature=choices.temperature, top_p=choices.top_p, max_tokens=choices.max_tokens, seed=seed
    )  # fmt: skip
    return Request(talk.messages(side, prompt), sampling, client=talk.person)


def _failed(site: Site, talk: Talk, side: int, error: Exception, text: str) -> Answer:
    """What is left of an answer that failed. Raises the error again where it is not the model's fault."""
    if isinstance(error, (Refusal, RequestError)):
        raise error
    name = talk.models[side]
    site.models.failed(name)
    logging.getLogger("fairground.web").error("%s failed at an answer", name, exc_info=error)
    if talk.mode == "battle":
        raise _Aside("engine_died", DIED)
    return Answer(text, "failed")


def _telling(site: Site) -> set[str]:
    """Every name that would tell which model wrote something."""
    found: set[str] = set()
    for name, offer in site.models.offers.items():
        generator = site.models.generators.get(name)
        found |= {name, name.partition("#")[0], offer.maker, generator.info.family if generator else ""}
    return found - {""}


def _whole(talk: Talk, side: int, answer: Answer, error: Exception | None = None) -> dict[str, Any]:
    html = as_html(answer.text)
    if error is not None:
        html += '<p class="failed">This model broke down before its answer was whole.</p>'
    elif not answer.text.strip():
        html = "<p>(The model wrote nothing.)</p>"
    return {"side": side, "html": html, "text": answer.text, "facts": line(answer, blind=talk.blind)}


def _said(talk: Talk, kept: bool) -> str:
    """What the page's live region says at the end of a turn."""
    said = "The answer is whole." if talk.mode == "chat" else "Both answers are whole."
    if any(answer.finish == "failed" for answer in talk.turns[-1].answers):
        said = "A model broke down; try again, or choose another one."
    elif not talk.whole:
        said = "Stopped." if talk.mode == "chat" else "Stopped; what is not whole cannot be voted on. Regenerate."
    return said if kept else f"{said} (The database cannot be written, so this turn is not kept.)"


def _keep(site: Site, talk: Talk) -> bool:
    """Keeps the last turn as the settings have it; False where the database does not take it."""
    last = talk.turns[-1]
    a, b = (*(answer.text for answer in last.answers), "")[:2]
    try:
        site.ledger.add_turn(talk.id, len(talk.turns), last.prompt, a, b, system=talk.system)
    except ArenaRefusal as refused:
        if refused.status != 503:
            raise
        return False
    return True


def _set_aside(site: Site, battle: str, tag: str) -> None:
    try:
        site.ledger.set_aside(battle, tag)
    except ArenaRefusal:  # it stays open there, but this process lets nobody vote on it
        logging.getLogger("fairground.web").error("battle %s could not be set aside", battle, exc_info=True)
