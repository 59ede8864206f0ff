"""What the arena promises of intervals, pairing and integrity, measured: the tables of the methods page.

    .venv/bin/python benchmarks/arena_simulations.py [PART ...] [--votes llmfao.csv] [--quick]

Parts: coverage, clusters, pairing, replay, honest, caught, attack_18, attack_13, attack_6 (none named: all). Each is
printed and put into `fairground/web/methods.json` and between its markers in `docs/methods.md`; other parts stay as
they are. Each has a seed of its own, so the same code and libraries give the same tables. `--quick` makes small ones
and writes nothing. `--votes` is the replay's file; without it the replay takes the 2023 record that is in the package.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fairground.arena import record
from fairground.arena.battles import read_battles
from fairground.arena.columns import columns
from fairground.arena.fit import Fit
from fairground.arena.integrity import judge_voter, theta_without
from fairground.arena.pairing import choose_pair, design
from fairground.arena.ratings import ELO_PER_LOGIT
from fairground.arena.simulation import (
    POINTS,
    Attack,
    Community,
    Floats,
    adaptive_battles,
    attacking_account,
    climb,
    covered,
    even_pairs,
    fit,
    strengths,
)
from fairground.errors import DataError

ROOT = Path(__file__).parent.parent
JSON = ROOT / "fairground" / "web" / "methods.json"
PAGE = ROOT / "docs" / "methods.md"
M = 20
SPREAD = 0.7  # logits, 122 Elo: about the spread of the 20 models of the first public arenas
PLACES = (18, 13, 6)  # of the attacks' targets among the 20
ACCOUNTS = 500  # none of the strategies needs as many
Part = dict[str, Any]


def coverage(quick: bool) -> Part:
    """95% intervals against the truth, where every vote is another voter's."""
    runs = 20 if quick else 10_000
    community = Community(strengths(M, SPREAD), taste=0, lean=0)

    def even(votes: int) -> Iterator[Fit]:
        rng, each = np.random.default_rng(votes), np.arange(votes)
        for _ in range(runs):
            first, second = even_pairs(M, votes, rng)
            yield fit(first, second, community.votes(first, second, each, rng), each, M)

    def adaptive(votes: int) -> Iterator[Fit]:
        rng = np.random.default_rng(votes + 1)
        for _ in range(3 * runs // 10):
            yield list(adaptive_battles(community, votes, rng, refit=500, together=True))[-1][3]

    cases = {f"{votes}": (f"{votes:,} votes", even(votes)) for votes in (1_000, 3_000, 6_000)}
    cases["adaptive_1000"] = ("1,000 votes, adaptive pairing", adaptive(1_000))
    cases["adaptive"] = ("3,000 votes, adaptive pairing", adaptive(3_000))
    return _coverage("Do 95% intervals hold the truth in 95% of cases?", community.theta, cases)


def clusters(quick: bool) -> Part:
    """95% intervals against the truth, where voters have tastes and cast many votes."""
    runs = 20 if quick else 10_000
    community = Community(strengths(M, SPREAD))

    def crowds(voters: int, each: int) -> Iterator[Fit]:
        rng, voter = np.random.default_rng(voters), np.repeat(np.arange(voters), each)
        for _ in range(runs):
            first, second = even_pairs(M, len(voter), rng)
            yield fit(first, second, community.votes(first, second, voter, rng), voter, M)

    cases = {
        f"{n}": (f"{n:,} voters, {each} votes each", crowds(n, each)) for n, each in ((150, 20), (60, 50), (600, 5))
    }
    return _coverage("The same where voters have tastes and cast many votes", community.ratings(), cases)


def _coverage(title: str, truth: Floats, cases: dict[str, tuple[str, Iterator[Fit]]]) -> Part:
    rows, figures = [], {}
    for key, (name, fits) in cases.items():
        held = [covered(truth, fitted) for fitted in fits]
        own = np.mean([one for one, _ in held], axis=0)
        pairs = float(np.mean([share for _, share in held]))
        figures[key] = {
            "ratings": float(own.mean()),
            "lowest": float(own.min()),
            "highest": float(own.max()),
            "differences": pairs,
            "runs": len(held),
        }
        span = f"{own.min():.1%} to {own.max():.1%}"
        rows.append([name, f"{len(held):,}", f"{own.mean():.2%}", span, f"{pairs:.2%}"])
    columns = ["20 models", "runs", "ratings covered", "lowest and highest model", "differences covered"]
    return {"title": title, "columns": columns, "rows": rows, "figures": figures}


def pairing(quick: bool) -> Part:
    """Votes that even pairing needs for the widths that adaptive pairing reaches."""
    runs, budget = (2, 1_000) if quick else (16, 3_000)
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}

    def curve(community: Community, share: float, votes: int, seed: int) -> Any:
        """votes, widest, median and mean width in Elo after each fit."""
        rng = np.random.default_rng(seed)
        steps = adaptive_battles(community, votes, rng, uniform_share=share, together=share == 1)
        widths = [(len(left), 2 * ELO_PER_LOGIT * fitted.half_widths()[0]) for left, _, _, fitted in steps]
        return np.array([(n, own.max(), np.median(own), own.mean()) for n, own in widths])

    for spread in (0.45, SPREAD, 1.0, 1.5):
        community = Community(strengths(M, spread), taste=0, lean=0)
        even = np.mean(
            [curve(community, 1.0, (5 if spread > 1.2 else 3) * budget, seed) for seed in range(runs)], axis=0
        )
        adaptive = np.array([curve(community, 0.1, budget, 1000 + seed) for seed in range(runs)])
        cells = [f"{spread * ELO_PER_LOGIT:.0f}"]
        for column, name in ((1, "widest"), (2, "median"), (3, "mean")):
            reached = adaptive[:, -1, column]
            needed = np.interp(-reached, -even[:, column], even[:, 0])
            saved = 1 - budget / needed
            error = 1.96 * saved.std(ddof=1) / np.sqrt(runs)
            figures[f"{name}_{spread}"] = {"saved": float(saved.mean()), "error": float(error),
                                           "width": float(reached.mean())}  # fmt: skip
            cells.append(f"{reached.mean():.0f}; {saved.mean():.0%} (± {error:.0%})".replace("-", "−"))
        rows.append(cells)
    joined = _newcomer(2 if quick else 10, 1_000 if quick else 3_000)
    figures["newcomer"] = joined
    return {
        "title": "How many votes does adaptive pairing save?",
        "columns": [
            "spread of 20 models, Elo",
            "widest interval, Elo; votes saved",
            "median interval",
            "mean interval",
        ],
        "rows": rows,
        "note": (
            f"After {budget:,} votes in adaptive pairing ({runs} runs; ± is 95%). A model that joins 19 others after "
            f"{joined['settled']:,} votes has an interval of 150 Elo after {joined['adaptive']:.0f} more battles "
            f"of the arena, and after {joined['even']:.0f} with even pairing; until then it is in "
            f"{joined['presence']:.0%} of the battles."
        ),
        "figures": figures,
    }


def _newcomer(runs: int, settled: int) -> dict[str, float]:
    """Battles of the arena until a model that joins late has an interval of 150 Elo, and its presence in them."""
    community = Community(strengths(M, SPREAD), taste=0, lean=0)
    newest = M // 2

    def took(seed: int, share: float) -> tuple[int, float]:
        rng = np.random.default_rng(seed)
        joins = {newest: settled}
        steps = adaptive_battles(community, settled + 3_000, rng, refit=20, uniform_share=share, joins=joins)
        for left, right, _, fitted in steps:  # noqa: B007
            known = len(fitted.theta) == M and len(left) > settled
            if known and 2 * ELO_PER_LOGIT * fitted.half_widths()[0][newest] <= 150:
                break
        return len(left) - settled, float(((left == newest) | (right == newest))[settled:].mean())

    adaptive = np.mean([took(seed, 0.1) for seed in range(runs)], axis=0)
    even = np.mean([took(seed, 1.0) for seed in range(runs)], axis=0)
    figures = {"adaptive": float(adaptive[0]), "even": float(even[0]), "presence": float(adaptive[1])}
    return {"settled": settled, **figures}


def replay(quick: bool, votes: Path | None) -> Part:
    """The record's votes drawn again, by adaptive and by even pairing, with intervals clustered by voter."""
    battles = columns(read_battles(votes) if votes else record.votes())
    recorded = np.stack([battles.first, battles.second, battles.outcome, battles.voter], axis=1).astype(np.int64)
    often = np.bincount(recorded[:, :2].ravel())
    rows, figures = [], {}
    runs, budget = (1, 1_000) if quick else (20, 3_000)
    for key, keep in (("all", len(often)), ("most", 20)):
        kept = np.sort(np.argsort(-often, kind="stable")[:keep])
        table = recorded[np.isin(recorded[:, :2], kept).all(axis=1)]
        table[:, :2] = np.searchsorted(kept, table[:, :2])
        spent = min(budget, len(table) // 3) if key == "most" else budget
        even, adaptive = (
            np.mean([_replayed(table, len(kept), share, spent, seed) for seed in range(runs)], axis=0)
            for share in (1.0, 0.1)
        )
        cells = [f"{len(kept)} models, {len(table):,} recorded votes", f"{spent:,}"]
        for column, name in enumerate(("widest", "median", "mean")):
            at = adaptive[column]
            # Recorded votes run out, so both draw the same number, and widths fall as 1 over the root of votes.
            needed = spent * (even[column] / at) ** 2
            saved = float(1 - spent / needed)
            figures[f"{name}_{key}"] = {"even": float(even[column]), "adaptive": float(at), "saved": saved}
            cells.append(f"{even[column]:.0f} → {at:.0f} ({saved:.0%})".replace("-", "−"))
        rows.append(cells)
    return {
        "title": "The same on real votes: the 2023 record, replayed",
        "columns": ["votes", "drawn", "widest interval, Elo: even → adaptive (votes saved)", "median", "mean"],
        "rows": rows,
        "note": f"{runs} runs; every vote is drawn once at most; intervals are clustered by voter.",
        "figures": figures,
    }


def _replayed(table: Any, m: int, share: float, budget: int, seed: int) -> Any:
    """Widest, median and mean width in Elo after so many votes drawn from the record, refitted every 250."""
    rng = np.random.default_rng(seed)
    waiting: dict[tuple[int, int], list[int]] = {}
    for n in rng.permutation(len(table)):
        a, b = sorted(table[n, :2].tolist())
        waiting.setdefault((a, b), []).append(int(n))
    left = np.zeros((m, m), dtype=bool)
    for a, b in waiting:
        left[a, b] = left[b, a] = True
    counts = np.zeros((m, m), dtype=np.int64)
    known = design(np.zeros(m), counts)
    drawn: list[int] = []
    widths = (np.inf, np.inf, np.inf)
    while len(drawn) < budget:
        pair = choose_pair(known, counts, rng=rng, available=left, uniform_share=share)
        a, b = sorted((pair.a, pair.b))
        drawn.append(waiting[a, b].pop())
        if not waiting[a, b]:
            left[a, b] = left[b, a] = False
        counts[a, b] += 1
        counts[b, a] += 1
        known = known.after(a, b)
        if len(drawn) % 250 == 0 or len(drawn) == budget:
            first, second, outcome, voter = table[drawn].T
            try:
                fitted = fit(first, second, outcome, voter, m)
            except DataError:  # some models have not met the others yet
                continue
            own = 2 * ELO_PER_LOGIT * fitted.half_widths()[0]
            widths = own.max(), np.median(own), own.mean()
            known = design(fitted.theta, counts, (own / ELO_PER_LOGIT / 2 / 1.96) ** 2)
    return np.array(widths)


def honest(quick: bool) -> Part:
    """Alarms about honest voters."""
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}
    usual = Community(strengths(M, SPREAD))
    kinds = {
        "honest": ("honest, 100 battles opened", usual, 100, 4_000),
        "long": ("honest, 1,000 battles opened", usual, 1_000, 300),
        "ties": ("honest, ties nearly always", Community(usual.theta, ties=(20.0, 1.0)), 100, 600),
        "no_ties": ("honest, ties never", Community(usual.theta, ties=(0.01, 10.0)), 100, 600),
        "side": ("honest, leans to one side (SD 1.5)", Community(usual.theta, lean=1.5), 100, 600),
        "tastes": ("honest, stronger tastes than assumed (SD 0.7)", Community(usual.theta, taste=0.7), 100, 600),
    }
    for key, (name, community, opened, voters) in kinds.items():
        voters = voters // 200 if quick else voters
        alarms = np.mean([verdict.suspect for verdict in _honest_verdicts(community, opened, voters)])
        figures[key] = {"alarms": float(alarms), "voters": voters}
        rows.append([name, f"{voters:,}", f"{alarms:.2%}"])
    real = _record_alarms()
    figures["record"] = real
    rows.append(["the 2023 record's real voters", f"{real['voters']}", f"{real['alarms']} of them"])
    return {
        "title": "How often is an honest voter suspected?",
        "columns": ["voters", "how many", "suspected in their whole life"],
        "rows": rows,
        "note": "Simulated voters leave 30% of the battles that they open without a vote.",
        "figures": figures,
    }


def caught(quick: bool) -> Part:
    """Alarms about attackers who do not adapt."""
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}
    usual = Community(strengths(M, SPREAD))
    attacks = {
        "target_50": ("50 votes, all for the target", 50, 0, True),
        "disguised_100": ("100 votes: 50 for the target whenever it is there, 50 honest ones elsewhere", 50, 50, True),
        "mixed_100": ("100 votes: 50 for the target, 50 honest ones wherever the draw leads", 50, 50, False),
    }
    each = 1 if quick else 30
    for key, (name, forced, honestly, apart) in attacks.items():
        rng = np.random.default_rng(forced + honestly + apart)
        base = _community_fit(usual, 200, 60, rng)
        alarms = np.zeros((M, 2))
        for target in range(M):
            for _ in range(each):
                first, second, outcome = _attacker(usual, target, forced, honestly, apart, rng)
                cast = outcome != -1
                variance = np.diag(base.sandwich)
                seen = judge_voter(first[cast], second[cast], outcome[cast], base.theta, variance=variance)
                logged = judge_voter(first, second, outcome, base.theta, variance=variance)
                alarms[target] += seen.suspect, logged.suspect
        alarms /= each
        figures[key] = {
            "by_votes": float(alarms[:, 0].mean()),
            "by_all": float(alarms[:, 1].mean()),
            "worst_by_votes": float(alarms[:, 0].min()),
            "worst_by_all": float(alarms[:, 1].min()),
        }
        share = [f"{alarms[:, i].mean():.1%} (hardest target {alarms[:, i].min():.0%})" for i in (0, 1)]
        rows.append([name, f"{M * each:,}", *share])
    return {
        "title": "Who is caught?",
        "columns": ["attacker", "how many", "caught by their votes", "battles left known too"],
        "rows": rows,
        "note": (
            "Targets are each of the 20 models in turn. Whoever votes for the target leaves other battles, but for the "
            "honest votes. Ratings come from 12,000 votes of 200 others."
        ),
        "figures": figures,
    }


def _community_fit(community: Community, voters: int, each: int, rng: Any) -> Any:
    voter = np.repeat(np.arange(voters), each)
    first, second = even_pairs(M, len(voter), rng)
    return fit(first, second, community.votes(first, second, voter, rng), voter, M)


def _honest_verdicts(community: Community, opened: int, voters: int) -> Any:
    """In communities of 200, each voter against the ratings of the others."""
    rng = np.random.default_rng(opened + voters)
    size = min(200, voters)
    for _ in range(0, voters, size):
        voter = np.repeat(np.arange(size), opened)
        first, second = even_pairs(M, len(voter), rng)
        outcome = community.votes(first, second, voter, rng)
        more = rng.normal(0, community.leave_spread, M)
        leave = 1 / (1 + np.exp(-(np.log(community.leave / (1 - community.leave)) + more[first] + more[second])))
        outcome = np.where(rng.random(len(outcome)) < leave, -1, outcome)
        cast = outcome != -1
        everyone = fit(first[cast], second[cast], outcome[cast], voter[cast], M)
        for one in range(size):
            life = voter == one
            votes = life & cast
            others = theta_without(
                everyone.theta, everyone.model_based, first[votes], second[votes], POINTS[outcome[votes]]
            )
            yield judge_voter(first[life], second[life], outcome[life], others, variance=np.diag(everyone.sandwich))


def _attacker(community: Community, target: int, forced: int, honest: int, apart: bool, rng: Any) -> Any:
    """Battles opened until so many are forced for the target and so many honest ones cast, the rest left."""
    opened = 40 * (forced + honest)
    first, second = even_pairs(M, opened, rng)
    outcome = community.votes(first, second, np.zeros(opened, dtype=np.int64), rng)
    present = (first == target) | (second == target)
    wins = np.where(first == target, 0, 1)
    left, said = [forced, honest], np.full(opened, -1)
    for n in range(opened):
        as_honest = left[1] and rng.random() < (0.11 if honest and apart else 0.2)
        if present[n] and left[0] and not (as_honest and not apart):
            said[n] = wins[n]
            left[0] -= 1
        elif as_honest and not (apart and present[n]):
            said[n] = outcome[n]
            left[1] -= 1
        if not any(left):
            return first[: n + 1], second[: n + 1], said[: n + 1]
    raise AssertionError("too few battles were drawn")


def _record_alarms() -> dict[str, int]:
    battles = columns(record.votes())
    first, second, outcome, voter = (
        column.astype(np.int64) for column in (battles.first, battles.second, battles.outcome, battles.voter)
    )
    voters = int(voter.max()) + 1
    everyone = fit(first, second, outcome, voter, len(battles.models))
    suspects = 0
    for one in range(voters):
        votes = voter == one
        points = POINTS[outcome[votes]]
        others = theta_without(everyone.theta, everyone.model_based, first[votes], second[votes], points)
        variance = np.diag(everyone.sandwich)
        suspects += judge_voter(first[votes], second[votes], outcome[votes], others, variance=variance).suspect
    return {"voters": voters, "alarms": suspects}


def attack(quick: bool, place: int) -> Part:
    """What a climb of three ranks from this place costs one who adapts, in votes and accounts."""
    target = M - place
    community = Community(strengths(M, SPREAD))
    prices = (0, 25, 50, 100)
    seeds = range(1 if quick else 3 if place > 10 else 2)  # near the top, a climb takes more votes and longer
    strategies = {
        "target alone, other battles left": Attack(),
        "target, 1 in 10 other battles honestly": Attack(elsewhere=0.1),
        "target, 1 in 5 other battles": Attack(elsewhere=0.2),
        "target, half of the other battles, 100 votes": Attack(elsewhere=0.5),
        "target, all other battles, 100 votes": Attack(elsewhere=1.0),
        "target, 2 in 5 other battles, 300 votes": Attack(elsewhere=0.4, account_votes=300, refusals=30),
        "target and against 3 rivals, others left": Attack(rivals=3),
        "target and against 3 rivals, 1 in 10 others": Attack(rivals=3, elsewhere=0.1),
        "target and against 3 rivals, 1 in 5 others": Attack(rivals=3, elsewhere=0.2),
        "target and against 3 rivals, half of others, 50 votes": Attack(rivals=3, elsewhere=0.5, account_votes=50),
        "target and against 3 rivals, all others, 100 votes": Attack(rivals=3, elsewhere=1.0),
    }
    if quick:
        strategies = {name: strategies[name] for name in list(strategies)[:2]}
    crowds = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        voter = np.repeat(np.arange(300), 60)
        first, second = even_pairs(M, len(voter), rng)
        crowds.append((first, second, community.votes(first, second, voter, rng)))
    open_arena = Attack(recognises=1.0, account_votes=2_000, wary=False)
    undefended = [_cost(community, target, open_arena, crowd, seed)[0] for seed, crowd in enumerate(crowds)]
    rows = []
    cheapest = dict.fromkeys(prices, float("inf"))
    for name, plan in strategies.items():
        costs = [_cost(community, target, plan, crowd, 50 + seed) for seed, crowd in enumerate(crowds)]
        votes, accounts = np.sum(costs, axis=0)
        times = {price: float((votes + price * accounts) / sum(undefended)) for price in prices}
        cheapest = {price: min(cheapest[price], times[price]) for price in prices}
        cells = (f"{votes / len(costs):.0f}", f"{accounts / len(costs):.0f}")
        rows.append([name, *cells, *(f"{times[price]:.1f}" for price in prices)])
    rows.append(["**the cheapest**", "", "", *(f"**{cheapest[price]:.1f}**" for price in prices)])
    return {
        "title": f"What does an attacker pay who knows all this, from place {place} to {place - 3}?",
        "columns": ["strategy", "votes", "accounts", *(f"times, {price} an account" for price in prices)],
        "rows": rows,
        "note": f"Undefended: {np.mean(undefended):.0f} votes. Means of {len(costs)} arenas.",
        "figures": {"cheapest": {str(price): cheapest[price] for price in prices}},
    }


def _cost(community: Community, target: int, plan: Attack, crowd: Any, seed: int) -> tuple[int, int]:
    """Votes cast and accounts used for three ranks."""
    rng = np.random.default_rng(seed)
    lives: list[Any] = []
    owner: list[int] = []
    for account in range(ACCOUNTS):
        first, second, outcome = attacking_account(community, target, plan, rng)
        cast = outcome != -1
        lives.append((first[cast], second[cast], outcome[cast]))
        owner += [account] * int(cast.sum())
        votes = climb(M, target, 3, crowd, tuple(np.concatenate(column) for column in zip(*lives, strict=True)))
        if votes is not None:
            return votes, owner[votes - 1] + 1
    raise AssertionError(f"{ACCOUNTS} accounts did not lift the target by three ranks")


def markdown(part: Part) -> str:
    head = f"| {' | '.join(part['columns'])} |\n|{'---|' * len(part['columns'])}\n"
    body = "".join(f"| {' | '.join(row)} |\n" for row in part["rows"])
    return f"{head}{body}" + (f"\n{part['note']}\n" if "note" in part else "")


def written(page: str, parts: dict[str, Part]) -> str:
    """The page with the parts' tables between their markers."""
    for key, part in parts.items():
        start, end = f"<!-- {key} -->\n", f"<!-- end {key} -->"
        before, rest = page.split(start)
        page = before + start + markdown(part) + end + rest.split(end)[1]
    return page


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*")
    options.add_argument("--votes", type=Path)
    options.add_argument("--quick", action="store_true")
    asked = options.parse_args()
    makers: dict[str, Callable[[bool], Part]] = {
        "coverage": coverage, "clusters": clusters, "pairing": pairing,
        "replay": lambda quick: replay(quick, asked.votes),
        "honest": honest, "caught": caught,
        **{f"attack_{place}": partial(attack, place=place) for place in PLACES},
    }  # fmt: skip
    for key in asked.parts or makers:
        if key not in makers:
            options.error(f"there is no part {key}; the parts are {', '.join(makers)}")
        began = time.perf_counter()
        part = makers[key](asked.quick)
        print(f"{part['title']} ({time.perf_counter() - began:.0f} s)\n\n{markdown(part)}", flush=True)
        if not asked.quick:
            parts = json.loads(JSON.read_text()) if JSON.exists() else {}
            parts[key] = part
            JSON.parent.mkdir(exist_ok=True)
            JSON.write_text(json.dumps({key: parts[key] for key in makers if key in parts}, indent=1) + "\n")
            if PAGE.exists():
                PAGE.write_text(written(PAGE.read_text(), {key: part}))


if __name__ == "__main__":
    main()
