r"""Ratings of two million battles beside arena-rank, evalica and FastChat's method.

    pip install --no-deps --target DIR arena-rank evalica jax==0.8.1 jaxlib==0.8.1 jaxtyping optax ml_dtypes \
        opt_einsum wadler_lindig
    .venv/bin/python benchmarks/ratings_against_peers.py --peers DIR [--rounds 3] [--sides ...] [--add]

The battles are made from a seed and lie in memory as each side takes them: columns of numbers for ours, a table with
names (pandas) for the others, which is what their own functions begin with; "from names" begins ours with that table
too. Each turn is a process of its own and the sides take turns. A turn does its work twice and the second time
counts, so that compiling is left out where it is done once. The clock runs from the battles to ratings with 95%
intervals by the sandwich; evalica has no intervals, and FastChat's come from 100 resamples, of which one fit is timed
here. FastChat's method is that of its published notebook: logistic regression by scikit-learn (`lbfgs`, without a
penalty), on each pair's wins with ties half each; with style it would take every battle twice, in a table of 7 GB,
and is left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fairground import __version__
from fairground.arena.columns import Battles
from fairground.arena.online import Online
from fairground.arena.ratings import ELO_PER_LOGIT, rated
from fairground.arena.style import FEATURES

HERE = Path(__file__).parent
SIDES = ("fairground", "fairground_names", "arena_rank", "evalica", "fastchat")
STYLED = ("fairground_style", "arena_rank_style")
PACKAGES = ("numpy", "arena-rank", "evalica", "scikit-learn")
OURS_ALONE = ("fairground_voters", "fairground_outside")


def made(n: int, m: int, voters: int = 0) -> Battles:
    """Battles of models some of which are met ten times as often as others."""
    dice = np.random.default_rng(11)
    theta = 3 * (dice.random(m) - 0.5)
    popular = np.cumsum(0.1 + 0.9 * dice.random(m) ** 2)
    first, second = (np.searchsorted(popular, dice.random(n) * popular[-1]) for _ in range(2))
    second = np.where(first == second, (second + 1) % m, second)
    style = np.clip(dice.normal(0, 0.4, (n, 4)), -0.99, 0.99)
    lead = theta[first] - theta[second] + style @ [0.6, 0.1, 0.1, 0.1]
    lot, won = dice.random(n), dice.random(n) < 1 / (1 + np.exp(-lead))
    outcome = np.where(lot < 0.15, 3, np.where(lot < 0.33, 2, np.where(won, 0, 1)))
    voter = dice.integers(voters, size=n) if voters else np.full(n, -1)
    return Battles(
        tuple(f"model-{i:03}" for i in range(m)),
        first.astype(np.int32),
        second.astype(np.int32),
        outcome.astype(np.int8),
        voter.astype(np.int32),
        np.full(n, -1, dtype=np.int64),
        style,
    )


def table(battles: Battles) -> Any:
    import pandas

    names, said = np.array(battles.models), np.array(["model_a", "model_b", "tie", "tie (bothbad)"])
    cells = {"model_a": names[battles.first], "model_b": names[battles.second], "winner": said[battles.outcome]}
    return pandas.DataFrame(cells | dict(zip(FEATURES, battles.style.T, strict=True)))  # type: ignore[union-attr]


def fairground(**options: Any) -> Callable[[Battles], Callable[[], list[float]]]:
    def ready(battles: Battles) -> Callable[[], list[float]]:
        def run() -> list[float]:
            rows = {row.model: row.rating for row in rated(battles, **options).rows}
            return [rows[name] for name in battles.models]

        return run

    return ready


def fairground_names(battles: Battles) -> Callable[[], list[float]]:
    import pandas

    given = table(battles)

    def run() -> list[float]:
        code, names = pandas.factorize(pandas.concat([given["model_a"], given["model_b"]]), sort=True)
        said, winners = pandas.factorize(given["winner"])
        known = {"model_a": 0, "model_b": 1, "tie": 2, "tie (bothbad)": 3}
        n = len(given)
        read = Battles(
            tuple(names),
            code[:n].astype(np.int32),
            code[n:].astype(np.int32),
            np.array([known[name] for name in winners], dtype=np.int8)[said],
            np.full(n, -1, dtype=np.int32),
            np.full(n, -1, dtype=np.int64),
        )
        rows = {row.model: row.rating for row in rated(read).rows}
        return [rows[name] for name in battles.models]

    return run


def arena_rank(style: bool) -> Callable[[Battles], Callable[[], list[float]]]:
    def ready(battles: Battles) -> Callable[[], list[float]]:
        from arena_rank.models.bradley_terry import BradleyTerry
        from arena_rank.models.contextual_bradley_terry import ContextualBradleyTerry
        from arena_rank.utils.data_utils import ContextualPairDataset, PairDataset

        given = table(battles)

        def run() -> list[float]:
            if style:
                pairs = ContextualPairDataset.from_pandas(given, list(FEATURES), reweighted=False)
                model = ContextualBradleyTerry(len(pairs.competitors), len(FEATURES), reg=1e-5)
            else:
                pairs = PairDataset.from_pandas(given)
                model = BradleyTerry(len(pairs.competitors))
            found = model.compute_ratings_and_cis(pairs)
            np.asarray(found["rating_upper"])
            rows = dict(zip(found["competitors"], map(float, found["ratings"]), strict=True))
            return [rows[name] for name in battles.models]

        return run

    return ready


def evalica(battles: Battles) -> Callable[[], list[float]]:
    import evalica as peer

    given = table(battles)
    said = {
        "model_a": peer.Winner.X,
        "model_b": peer.Winner.Y,
        "tie": peer.Winner.Draw,
        "tie (bothbad)": peer.Winner.Draw,
    }
    xs, ys, winners = given["model_a"].tolist(), given["model_b"].tolist(), given["winner"].map(said).tolist()

    def run() -> list[float]:
        logits = np.log(peer.bradley_terry(xs, ys, winners, tolerance=1e-8, limit=10_000).scores)
        points = 1000 + ELO_PER_LOGIT * (logits - logits.mean())
        return [float(points[name]) for name in battles.models]

    return run


def fastchat(battles: Battles) -> Callable[[], list[float]]:
    from sklearn.linear_model import LogisticRegression

    given, m = table(battles), len(battles.models)

    def run() -> list[float]:
        place = {name: i for i, name in enumerate(battles.models)}
        a, b = given["model_a"].map(place).to_numpy(), given["model_b"].map(place).to_numpy()
        won = given["winner"].map({"model_a": 1.0, "model_b": 0.0}).fillna(0.5).to_numpy()
        pairs, pair = np.unique(a * m + b, return_inverse=True)
        wins, met, rows = np.bincount(pair, won), np.bincount(pair), np.arange(len(pairs))
        design = np.zeros((len(pairs), m))
        design[rows, pairs // m], design[rows, pairs % m] = 1.0, -1.0
        weight = np.concatenate([wins, met - wins])
        kept = weight > 0
        fit = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-6, max_iter=1000)
        fit.fit(np.concatenate([design, design])[kept], np.repeat([1, 0], len(pairs))[kept], sample_weight=weight[kept])
        return [float(value) for value in 1000 + ELO_PER_LOGIT * (fit.coef_[0] - fit.coef_[0].mean())]

    return run


READY: dict[str, Callable[[Battles], Callable[[], list[float]]]] = {
    "fairground": fairground(),
    "fairground_names": fairground_names,
    "fairground_style": fairground(style=True),
    "fairground_voters": fairground(),
    "fairground_outside": fairground(both_bad="outside"),
    "arena_rank": arena_rank(False),
    "arena_rank_style": arena_rank(True),
    "evalica": evalica,
    "fastchat": fastchat,
}


def turn(side: str, n: int, m: int, peers: str, pipe: Any) -> None:
    sys.path += [peers] if peers else []
    run = READY[side](made(n, m, voters=n // 5 if side == "fairground_voters" else 0))
    run()
    begun = time.perf_counter()
    ratings = run()
    pipe.send((time.perf_counter() - begun, ratings))


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def measured_online(m: int) -> float:
    """Microseconds that a vote takes to move the ratings of m models, between full fits."""
    votes = made(20_000, m)
    online = Online.after(rated(votes).fit, m)
    begun = time.perf_counter()
    for a, b, outcome in zip(votes.first[:5000].tolist(), votes.second.tolist(), votes.outcome.tolist(), strict=False):
        online.add(a, b, outcome)
    return (time.perf_counter() - begun) / 5000 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", metavar="DIR", help="where arena-rank and what it needs lie")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--battles", type=int, default=2_000_000)
    parser.add_argument("--models", type=int, default=200)
    everyone = [*SIDES, *STYLED, *OURS_ALONE]
    parser.add_argument("--sides", nargs="*", default=everyone, choices=everyone)
    parser.add_argument("--add", action="store_true", help="add turns to those in the file of results")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ratings.json")
    options = parser.parse_args()
    peers = str(Path(options.peers).resolve()) if options.peers else ""
    fresh = multiprocessing.get_context("spawn")
    before = json.loads(options.out.read_text(encoding="utf-8")) if options.add and options.out.exists() else {}
    seconds: dict[str, list[float]] = {side: [] for side in everyone} | before.get("seconds", {})
    ratings: dict[str, list[float]] = before.get("ratings", {})
    for number in range(options.rounds):
        for side in options.sides:
            here, there = fresh.Pipe()
            process = fresh.Process(target=turn, args=(side, options.battles, options.models, peers, there))
            process.start()
            there.close()
            try:
                taken, ratings[side] = here.recv()
            except EOFError:
                sys.exit(f"{side} ended without ratings.")
            process.join()
            seconds[side].append(taken)
            print(f"round {number + 1}: {side} {taken:.2f} s", flush=True)
    sys.path += [peers] if peers else []
    about = {
        "battles": options.battles,
        "models": options.models,
        "threads": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "command": "python benchmarks/ratings_against_peers.py --peers DIR",
        "versions": {"fairground": __version__}
        | {name: found for name in PACKAGES if (found := version(name)) is not None},
    }
    online_us = measured_online(options.models)
    ratings = {side: [round(value, 3) for value in found] for side, found in ratings.items()}
    raw = {"about": about, "seconds": seconds, "ratings": ratings, "online_us": online_us}
    options.out.write_text(json.dumps(raw) + "\n", encoding="utf-8")
    for side, times in seconds.items():
        if times:
            print(f"{side}: {median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
