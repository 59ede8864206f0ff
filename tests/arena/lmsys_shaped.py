r"""Battles in the shape of LMSYS's published sets, and what arena-rank says of them.

The numbers in arena_rank.json were written by arena-rank 0.1.1, with each model's rating and interval:

    pip install --no-deps --target DIR arena-rank jax==0.8.1 jaxlib==0.8.1 jaxtyping optax ml_dtypes opt_einsum \
        wadler_lindig
    PYTHONPATH=. .venv/bin/python tests/arena/lmsys_shaped.py DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fairground.arena.columns import Battles
from fairground.arena.style import FEATURES

NUMBERS = Path(__file__).with_name("arena_rank.json")
RIDGE = 1e-5
SHAPES = {"33k": (33_000, 20), "55k": (55_000, 64)}  # the sets of 2023 and 2024: battles, models


def battles(name: str) -> Battles:
    """Some models are met ten times as often as others; a third of the votes are ties, half of them bad ones."""
    n, m = SHAPES[name]
    draw = np.random.default_rng(n)  # of its streams only random() is used, which stays the same between versions
    theta = 2.4 * (draw.random(m) - 0.5)
    popular = np.cumsum(0.1 + 0.9 * draw.random(m) ** 2)
    first, second = (np.searchsorted(popular, draw.random(n) * popular[-1]) for _ in range(2))
    second = np.where(first == second, (second + 1) % m, second)
    style = (draw.random((n, 4)) + draw.random((n, 4)) - 1) * [0.8, 0.6, 0.6, 0.5] + 0.02
    lead = theta[first] - theta[second] + style @ [1.2, 0.3, 0.2, 0.2]
    lot, won = draw.random(n), draw.random(n) < 1 / (1 + np.exp(-lead))
    outcome = np.where(lot < 0.15, 3, np.where(lot < 0.33, 2, np.where(won, 0, 1)))
    return Battles(
        models=tuple(f"model-{i:02}" for i in range(m)),
        first=first.astype(np.int32),
        second=second.astype(np.int32),
        outcome=outcome.astype(np.int8),
        voter=np.full(n, -1, dtype=np.int32),
        prompt=np.full(n, -1, dtype=np.int64),
        style=style,
    )


def frame(found: Battles) -> Any:
    """LMSYS's columns, as arena-rank reads them."""
    import pandas

    names, said = np.array(found.models), np.array(["model_a", "model_b", "tie", "tie (bothbad)"])
    columns = {"model_a": names[found.first], "model_b": names[found.second], "winner": said[found.outcome]}
    if found.style is not None:
        columns |= dict(zip(FEATURES, found.style.T, strict=True))
    return pandas.DataFrame(columns)


def arena_rank(found: Battles, *, style: bool, reweight: bool, tight: bool) -> dict[str, list[float]]:
    """What arena-rank says: rating, low and high of each model. `tight`: fitted to its end, not as it is."""
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.models.contextual_bradley_terry import ContextualBradleyTerry
    from arena_rank.utils.data_utils import ContextualPairDataset, PairDataset

    ends = {"ftol": 1e-15, "gtol": 1e-12} if tight else {}
    if style:
        pairs = ContextualPairDataset.from_pandas(frame(found), list(FEATURES), reweighted=reweight)
        model = ContextualBradleyTerry(len(pairs.competitors), len(FEATURES), reg=RIDGE, hessian_reg=RIDGE, **ends)
    else:
        pairs = PairDataset.from_pandas(frame(found), reweighted=reweight)
        # It takes the ridge times the battles where it does not reweight them, and as it is where it does.
        scale = float(pairs.opt_weights.sum()) if reweight else 1.0
        model = BradleyTerry(len(pairs.competitors), hessian_reg=RIDGE * scale, **ends)
    said = model.compute_ratings_and_cis(pairs)
    columns = zip(*(map(float, said[name]) for name in ("ratings", "rating_lower", "rating_upper")), strict=True)
    return dict(zip(said["competitors"], map(list, columns), strict=True))


def main() -> None:
    sys.path.append(sys.argv[1])
    numbers = {
        f"{name} style={style} reweight={reweight} tight={tight}": {
            model: [round(value, 5) for value in values]
            for model, values in arena_rank(battles(name), style=style, reweight=reweight, tight=tight).items()
        }
        for name in SHAPES
        for style in (False, True)
        for reweight in (False, True)
        for tight in (False, True)
    }
    NUMBERS.write_text(json.dumps(numbers, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
