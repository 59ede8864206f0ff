"""Loss against tokens, as a picture."""

from __future__ import annotations

from pathlib import Path

import altair
import vl_convert

from fairground.models.assemble import write_text
from fairground.training.loop import Run

MOST_POINTS = 500


def loss_plot(run: Run, path: Path, *, title: str) -> None:
    """Writes an SVG: each step's loss in nats per prediction, and the held-out text's where it was measured."""
    stride = max(1, len(run.steps) // MOST_POINTS)
    rows = [{"tokens": step.tokens, "nats": step.loss} for step in run.steps[::stride]]
    per_step = run.steps[0].tokens if run.steps else 0
    bits = [{"tokens": step * per_step, "bits": value} for step, value in run.bits_per_byte.items()]
    x = altair.X("tokens:Q", title="tokens learned from", axis=altair.Axis(format="~s"))
    y = altair.Y("nats:Q", title="loss (nats per token)", scale=altair.Scale(zero=False))
    loss = _chart(rows).mark_line(strokeWidth=1, color="#4c78a8").encode(x, y)
    layers: list[altair.Chart] = [loss]
    if bits:
        z = altair.Y("bits:Q", title="held-out text (bits per byte)", scale=altair.Scale(zero=False))
        layers.append(_chart(bits).mark_line(point=True, color="#e45756").encode(x, z))
    chart = altair.layer(*layers).resolve_scale(y="independent").properties(title=title, width=560, height=300)
    write_text(path, vl_convert.vegalite_to_svg(chart.to_json()))


def _chart(rows: list[dict[str, float]]) -> altair.Chart:
    return altair.Chart(altair.Data(values=rows))  # type: ignore[no-untyped-call]
