"""Voters are tested while they vote: whoever the tests of fairground.arena.integrity find is put in quarantine.

Quarantine takes votes out of the ratings and nothing out of the log, and a steward can release. Whoever was released is
not tested again, since the same votes would raise the same alarm; stewards put in quarantine by hand whom they wish.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from fairground.arena.columns import CODES, POINTS, Battles, Floats
from fairground.arena.groups import largest_group
from fairground.arena.integrity import FIRST_LOOK, NO_VOTE, Verdict, judge_voter, theta_without
from fairground.arena.ratings import bradley_terry
from fairground.errors import ArenaRefusal
from fairground.governance.chain import Entry
from fairground.loop.ledger import Ledger
from fairground.loop.standings import ALL, Standings
from fairground.store.battles import StoredBattle, battles_of
from fairground.store.people import find_person

BY = "tests"  # who put somebody in quarantine, in the log
EVERY = 10.0  # seconds between looks
FEW = 0.01  # share of all votes below which a voter's are taken out of the ratings by one step; else by a fit
MOST_LEFT = 10_000  # battles of a voter that are looked through for those they left without a vote


@dataclass(frozen=True, slots=True, eq=False)
class _Community:
    """Ratings of the largest group of models that met, perhaps by way of others, by a number of voters."""

    place: dict[str, int]
    theta: Floats
    covariance: Floats

    @classmethod
    def of(cls, battles: Battles) -> _Community | None:
        """None without votes."""
        if not len(battles):
            return None
        met = largest_group(battles)
        first, second, voter = (column.astype(np.int64) for column in (met.first, met.second, met.voter))
        fit = bradley_terry(first, second, POINTS[met.outcome], voter, met.models)
        return cls({name: number for number, name in enumerate(met.models)}, fit.theta, fit.model_based)


class Watch:
    """Looks at the voters of a ledger. `standings` are the ledger's, kept up to date by somebody else.

    Thread-safe. `start` looks every few seconds in a thread of its own until `stop`.
    """

    def __init__(self, ledger: Ledger, standings: Standings) -> None:
        self._ledger, self._standings = ledger, standings
        self._seen: Counter[str] = Counter()  # votes of each voter at the last look
        self._looking, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look; returns at once."""
        self._thread = threading.Thread(target=self._run, name="fairground-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> dict[str, Verdict]:
        """Tests everybody who voted since the last look; the verdict on each who is in quarantine for it now."""
        with self._looking:
            snapshot = self._standings.snapshot()
            votes = snapshot.voters()
            new = {name: count for name, count in votes.items() if count >= FIRST_LOOK and count > self._seen[name]}
            everybody = _Community.of(snapshot.battles(ALL)) if new else None
            found: dict[str, Verdict] = {}
            for voter, count in new.items():
                entries = list(self._ledger.entries_of(voter))
                if not any(entry.kind == "release" for entry in entries):
                    few = count < FEW * sum(votes.values())
                    others = everybody if few else _Community.of(snapshot.without(voter))
                    verdict = self._judge(voter, entries, others, counted=few)
                    if verdict is not None and verdict.suspect and self._quarantine(voter, verdict):
                        found[voter] = verdict
                self._seen[voter] = count
            return found

    def verdict(self, voter: str) -> Verdict | None:
        """What the tests say now of a voter (pseudonym); None where there is too little to say anything of."""
        others = _Community.of(self._standings.snapshot().without(voter))
        return self._judge(voter, list(self._ledger.entries_of(voter)), others, counted=False)

    def _judge(
        self, voter: str, entries: Sequence[Entry], community: _Community | None, *, counted: bool
    ) -> Verdict | None:
        """`counted`: whether the community's ratings hold the voter's own votes, which are then taken out again."""
        if community is None:
            return None
        votes = [entry for entry in entries if entry.kind == "vote" and entry.body["mode"] == "battle"]
        life = [(e.at, e.body["model_a"], e.body["model_b"], CODES[e.body["winner"]]) for e in votes]
        life += [(one.opened, one.model_a, str(one.model_b), NO_VOTE) for one in self._left(voter)]
        place = community.place
        known = sorted(battle for battle in life if battle[1] in place and battle[2] in place)
        first = np.array([place[a] for _, a, _, _ in known], dtype=np.int64)
        second = np.array([place[b] for _, _, b, _ in known], dtype=np.int64)
        outcome = np.array([said for _, _, _, said in known], dtype=np.int64)
        voted, theta = outcome != NO_VOTE, community.theta
        if not voted.any():
            return None
        if counted:
            points = POINTS[outcome[voted]]
            theta = theta_without(theta, community.covariance, first[voted], second[voted], points)
        variance = np.diag(community.covariance).clip(0)
        return judge_voter(first, second, outcome, theta, variance=variance, names=list(place))

    def _left(self, voter: str) -> list[StoredBattle]:
        """The voter's battles whose time ran out without a vote; of somebody erased, none."""
        now = self._ledger.now()

        def query(connection: Connection) -> list[StoredBattle]:
            person = find_person(connection, pseudonym=voter)
            return [] if person is None else battles_of(connection, person.id, limit=MOST_LEFT)

        found = self._ledger.read(query)
        return [one for one in found if one.mode == "battle" and one.state == "open" and one.expires <= now]

    def _quarantine(self, voter: str, verdict: Verdict) -> bool:
        try:
            self._ledger.quarantine(voter, verdict.test, BY)
        except ArenaRefusal:  # somebody was faster, or the database is locked: the next vote is looked at again
            return False
        logging.getLogger("fairground.loop").warning("voter %s is in quarantine: %s", voter, verdict.said)
        return True

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.look()
            except Exception as error:  # the votes stay; the next look tries again
                logging.getLogger("fairground.loop").error("the voters could not be tested", exc_info=error)
