"""Standings that follow the log: votes are read as they come, ratings are fitted again in the background.

    live = LiveStandings(ledger.entries)
    live.start()
    live.board(View(category="code")).data

Pages ask for boards that are ready, so they wait for no fit. A board may be some seconds old, and says up to which
entry of the log it goes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fairground.arena.columns import CODES
from fairground.arena.online import Online
from fairground.arena.ratings import ELO_MEAN, ELO_PER_LOGIT, Ratings
from fairground.loop.standings import ALL, LogEntry, Standings, View, canonical_bytes

T = TypeVar("T")

MOST_VIEWS = 100  # that are kept up to date
POLL = 0.25  # seconds between looks at the log
LOOK = 10.0  # seconds between looks at what is beside the log
REST = 1.0  # seconds at least between fits
SHARE = 0.2  # of the time that fits may take, so that they never crowd out answers


@dataclass(frozen=True, slots=True, eq=False)
class Board(Generic[T]):
    """A leaderboard that is ready. `json`: the same as canonical bytes. `prepared`: what pages make of it, once."""

    view: View
    number: int  # of the log's entry up to which it goes
    votes: int
    data: dict[str, Any]
    json: bytes
    prepared: T


@dataclass(frozen=True, slots=True)
class _Vote:
    number: int
    model_a: str
    model_b: str
    winner: str


class _Online:
    """Ratings by name that votes keep moving, from a fit on."""

    def __init__(self, found: Ratings) -> None:
        self._place = {name: i for i, name in enumerate(found.battles.models)}
        self._ratings = Online.after(found.fit, len(self._place))

    def add(self, vote: _Vote) -> None:
        for name in (vote.model_a, vote.model_b):
            if name not in self._place:
                self._place[name] = self._ratings.add_model()
        self._ratings.add(self._place[vote.model_a], self._place[vote.model_b], CODES[vote.winner])

    def now(self) -> dict[str, float]:
        points = ELO_MEAN + ELO_PER_LOGIT * self._ratings.theta
        return {name: round(float(points[i]), 1) for name, i in sorted(self._place.items())}


class LiveStandings(Generic[T]):
    """The boards of one log. `entries(after)` reads it; `prepare` makes of a leaderboard what pages show, anew where
    what `beside` gives has changed.

    Thread-safe. `start` reads the log and keeps up with it in a thread of its own until `stop`; without that thread,
    who asks waits for a fit.
    """

    def __init__(
        self,
        entries: Callable[[int], Iterable[LogEntry]],
        prepare: Callable[[dict[str, Any]], T],
        beside: Callable[[], object] = lambda: None,
    ) -> None:
        self.standings = Standings()
        self._read = threading.Event()  # the log was read to its end
        self._entries, self._prepare, self._beside = entries, prepare, beside
        self._seen: object = None  # what `beside` gave last
        self._boards: dict[View, Board[T]] = {}
        self._online: _Online | None = None
        self._recent: deque[_Vote] = deque()  # blind votes that the newest fit does not know
        self._asked: dict[View, float] = {ALL: 0.0}  # when each was last asked for
        self._worn: set[View] = set()  # to be made anew although the log is the same
        self._personal: dict[str, tuple[int, dict[str, Any]]] = {}
        self._following, self._fitting = threading.Lock(), threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Reads the log and keeps up with it, in a thread; returns at once."""
        self._thread = threading.Thread(target=self._run, name="fairground-standings", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def wake(self) -> None:
        """Says that there is something new in the log, so that it is read at once."""
        self._wake.set()

    def follow(self) -> int:
        """Reads what is new in the log, and moves the online ratings by it; how many entries there were."""
        with self._following:
            before = self.standings.number
            for entry in self._entries(before):
                self.standings.add(entry)
                if entry.kind == "vote" and entry.body["mode"] == "battle":
                    vote = _Vote(entry.number, entry.body["model_a"], entry.body["model_b"], entry.body["winner"])
                    if self._online is not None:
                        self._recent.append(vote)
                        self._online.add(vote)
            return self.standings.number - before

    def board(self, view: View = ALL) -> Board[T]:
        """The newest board of a view that is ready; made at once where there is none yet, or nothing runs behind."""
        self._ask(view)
        if self._thread is None:
            self.follow()
            return self._fit(view)
        return self._boards.get(view) or self._fit(view)

    def online(self) -> dict[str, float]:
        """Each model's rating in blind battles with every vote so far, in points; empty before there is a fit."""
        with self._following:
            return self._online.now() if self._online is not None else {}

    @property
    def reading(self) -> bool:
        """Whether the log is still being read for the first time."""
        return self._thread is not None and not self._read.is_set()

    def ready(self, view: View) -> Board[T] | None:
        """The newest board of a view; None, and it will be made soon, where there is none yet."""
        if self._thread is None:
            return self.board(view)
        self._ask(view)
        return self._boards.get(view)

    def _ask(self, view: View) -> None:
        self._asked[view] = time.monotonic()
        while len(self._asked) > MOST_VIEWS:
            oldest = min((other for other in list(self._asked) if other != ALL), key=lambda other: self._asked[other])
            self._asked.pop(oldest, None)
            self._boards.pop(oldest, None)

    def personal(self, pseudonym: str) -> dict[str, Any]:
        """A voter's own leaderboard (see Standings.personal), of the log as it is now."""
        self.follow()
        kept = self._personal.get(pseudonym)
        if kept is None or kept[0] != self.standings.number:
            snapshot = self.standings.snapshot()
            kept = (snapshot.number, snapshot.personal(pseudonym))
            if len(self._personal) > 1000:
                self._personal.clear()
            self._personal[pseudonym] = kept
        return kept[1]

    def _stale(self) -> list[View]:
        """What was asked for and is older than the log, the board of all votes first, then the oldest."""
        number = self.standings.number
        old = {view: self._boards[view].number if view in self._boards else -1 for view in list(self._asked)}
        return sorted(
            (view for view, seen in old.items() if seen < number or view in self._worn),
            key=lambda view: (view != ALL, old[view], str(view)),
        )

    def _fit(self, view: View) -> Board[T]:
        with self._fitting:
            ready = self._boards.get(view)
            if ready is not None and ready.number == self.standings.number and view not in self._worn:
                return ready
            self._worn.discard(view)
            snapshot = self.standings.snapshot()
            data, found = snapshot.fitted(view)
            if view == ALL and found is not None:
                self._move_on(found, snapshot.number)
            board = Board(view, snapshot.number, data["votes"], data, canonical_bytes(data), self._prepare(data))
            self._boards[view] = board
            return board

    def _move_on(self, found: Ratings, number: int) -> None:
        """Lets the online ratings begin at a fit that knows the log up to an entry, and takes in the votes since."""
        with self._following:
            while self._recent and self._recent[0].number <= number:
                self._recent.popleft()
            if self._online is None:
                after = [entry for entry in self._entries(number) if entry.number <= self.standings.number]
                votes = [entry.body for entry in after if entry.kind == "vote" and entry.body["mode"] == "battle"]
                self._recent.extend(_Vote(-1, body["model_a"], body["model_b"], body["winner"]) for body in votes)
            self._online = _Online(found)
            for vote in self._recent:
                self._online.add(vote)

    def _run(self) -> None:
        rested = looked = 0.0
        while not self._stop.is_set():
            try:
                self.follow()
                self._read.set()
                if time.monotonic() >= looked:
                    seen, self._seen = self._seen, self._beside()
                    self._worn |= set(self._boards) if seen != self._seen else set()
                    looked = time.monotonic() + LOOK
                if time.monotonic() >= rested and (stale := self._stale()):
                    began = time.monotonic()
                    self._fit(stale[0])
                    took = time.monotonic() - began
                    # A first board is waited for; later ones give way.
                    rested = time.monotonic() + max(REST / max(len(stale), 1), took * (1 - SHARE) / SHARE)
            except Exception as error:  # a page that shows old ratings is better than none; the next round tries again
                logging.getLogger("fairground.loop").error(
                    "the standings could not be brought up to date", exc_info=error
                )
                self._stop.wait(5.0)
            self._wake.wait(POLL)
            self._wake.clear()
