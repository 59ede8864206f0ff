"""Response time and cost in the report and in the terminal: a table for each concurrency, and what they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from fairground.evaluation import columns as c
from fairground.evaluation.report_markup import row, table, text

MEASURES = (
    ("ttft_ms", "First token", "time to first token"),
    ("tpot_ms", "Per token", "time per output token, (end − first) / (n − 1)"),
    ("itl_ms", "Between tokens", "inter-token latency"),
    ("e2el_ms", "End to end", "from the request to its last token"),
)
_ABOUT = (
    "As vLLM's serving benchmark defines them: the median, and beneath it p95, p99 and the maximum. A percentile "
    "stands only where at least one value lies beyond it: p95 from 20 values on, p99 from 100; below that the maximum "
    "says more."
)
_GOODPUT = "Goodput: the share of all requests, failed ones included, that kept to {target}, and how many a second."
_ENERGY = (
    "Energy: of the whole load, put down to its output tokens. Estimated numbers are marked ~ and rest on assumptions, "
    "not on a measurement."
)

Json = Mapping[str, Any]


def times(leaderboard: Json) -> str:
    """The report's section."""
    models = [model for model in c.ranked(leaderboard) if _loads(model)]
    if not models:
        return "<p>No response time was measured in this run.</p>"
    parts = [f"<p>{text(conditions(leaderboard))}</p><p>{text(_ABOUT)}</p>"]
    for at in _concurrencies(models):
        parts.append(_table(models, at, leaderboard))
    if target := _target(leaderboard):
        parts.append(f"<p>{text(_GOODPUT.format(target=target))}</p>")
    parts.append(_energy_and_price(models, leaderboard))
    return "".join(parts)


def times_table(leaderboard: Json) -> Table | None:
    """The terminal's table of response time and cost, a line for each model and concurrency; None where there is none.

    As much as 100 columns hold: medians and the worst time to a first token; the report has the rest.
    """
    models = [model for model in c.ranked(leaderboard) if _loads(model)]
    if not models:
        return None
    target = _target(leaderboard)
    heads = ["In\nflight", "First token\np50, max ms", "Per token\np50 ms", "All\ntokens/s"]
    heads += ["Goodput\n%"] if target else []
    heads += ["Energy\nJ/1k tokens"] if any(_load_energy(m, at) for m in models for at in _loads(m)) else []
    heads += ["1,000\nrequests"] if any(model.get("cost_per_1k_requests") for model in models) else []
    table = Table(
        box=box.SIMPLE_HEAD, title=Text("Response time and cost"), title_style="bold", title_justify="left",
        show_edge=False, pad_edge=False, padding=(0, 1, 0, 1), collapse_padding=True,
    )  # fmt: skip
    table.add_column("Model", overflow="fold", min_width=12)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for model in models:
        for at, load in _loads(model).items():
            first, each = load.get("ttft_ms") or {}, load.get("tpot_ms") or {}
            cells = [at, f"{_ms(first.get('p50'))}, {_ms(first.get('max'))}", _ms(each.get("p50"))]
            cells.append(_rate(load.get("output_tokens_per_s")))
            if target:
                cells.append(_share(load.get("goodput")))
            if any("Energy" in head for head in heads):
                cells.append(_joules(_load_energy(model, at), "j_per_1k_tokens"))
            if any("requests" in head for head in heads):
                cells.append(_cost(model) if at == "1" else "")
            table.add_row(c.name(model) if at == "1" else "", *map(Text, cells))
    return table


def times_caption(leaderboard: Json) -> str:
    """What the terminal says beneath the table: the conditions, the target, and what ~ means."""
    said = [conditions(leaderboard)]
    if target := _target(leaderboard):
        said.append(f"Goodput: the share of requests that kept to {target}.")
    sources = sorted({str(energy["source"]) for _, energy in _energies(leaderboard) if energy.get("estimate")})
    said += [f"~ is an {source}." for source in sources]
    return c.printable(" ".join(said))


def conditions(leaderboard: Json) -> str:
    """Lengths and hardware, in one sentence."""
    run = leaderboard.get("run") or {}
    probe, machine = run.get("probe") or {}, run.get("environment") or {}
    said = f"Prompts of {probe.get('prompt_tokens', '?')} tokens, answers of {probe.get('output_tokens', '?')}"
    hardware = [str(machine["cpu"])] if machine.get("cpu") else []
    for key, one in (("cores", "core"), ("threads", "thread")):
        if machine.get(key):
            hardware.append(f"{machine[key]} {one}{'' if str(machine[key]) == '1' else 's'}")
    if str(machine.get("device") or "cpu") != "cpu":
        hardware.append(f"device {machine['device']}")
    if hardware:
        said += f", on {', '.join(hardware)}; a remote model's time is that of its server and of the way there"
    return said + "."


def _loads(model: Json) -> Mapping[str, Json]:
    """By concurrency, what was measured; nothing for a guesser that computes nothing."""
    found = model.get("response_time")
    return found if isinstance(found, Mapping) and not c.is_floor(model) else {}


def _concurrencies(models: Sequence[Json]) -> list[str]:
    return sorted({at for model in models for at in _loads(model)}, key=int)


def _target(leaderboard: Json) -> str:
    limits = ((leaderboard.get("run") or {}).get("probe") or {}).get("goodput_ms") or {}
    return c.listing([f"{name.upper()} ≤ {limit:g} ms" for name, limit in limits.items()]) if limits else ""


def _load_energy(model: Json, at: str) -> Json | None:
    return (_loads(model).get(at) or {}).get("energy")


def _energies(leaderboard: Json) -> Iterator[tuple[str, Json]]:
    for model in c.ranked(leaderboard):
        for at in _loads(model):
            if energy := _load_energy(model, at):
                yield at, energy


def _table(models: Sequence[Json], at: str, leaderboard: Json) -> str:
    target = _target(leaderboard)
    heads = "".join(
        f'<th scope="col" title="{text(meaning)}">{title} <small>ms</small></th>' for _, title, meaning in MEASURES
    )
    heads += '<th scope="col">Output <small>tokens/s in all</small></th>'
    heads += '<th scope="col">Goodput <small>%, requests/s</small></th>' if target else ""
    heads += '<th scope="col">Energy <small>J/1,000 tokens</small></th>'
    heads += '<th scope="col">Requests <small>answered</small></th>'
    heads += '<th scope="col">Tokens <small>in, out</small></th>'
    rows = ""
    for model in models:
        load = _loads(model).get(at)
        if load is None:
            continue
        cells = [_distribution(load.get(name)) for name, _, _ in MEASURES]
        cells.append(_rate(load.get("output_tokens_per_s")))
        if target:
            good = load.get("goodput") or {}
            cells.append(f"{_share(good)}<small>{_rate(good.get('requests_per_s'))}</small>")
        cells.append(_joules(load.get("energy"), "j_per_1k_tokens"))
        cells.append(f"{load.get('requests', 0)}<small>{load.get('failed', 0)} failed</small>")
        cells.append(f"{_lengths(load.get('prompt_tokens'))}<small>{_lengths(load.get('output_tokens'))}</small>")
        rows += row(text(c.name(model)), cells)
    title = "One request at a time" if at == "1" else f"{at} requests in flight"
    return (
        f'<h3 id="times-{at}">{title}</h3><div class="scroll" role="group" tabindex="0" aria-labelledby="times-{at}">'
        f'<table><thead><tr><th scope="col">Model</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _energy_and_price(models: Sequence[Json], leaderboard: Json) -> str:
    sources = dict.fromkeys(str(energy["source"]) for _, energy in _energies(leaderboard))
    said = f"<h3>Energy and price</h3><p>{text(_ENERGY)}</p>" if sources else "<h3>Energy and price</h3>"
    said += "".join(f"<p>{text(source[:1].upper() + source[1:])}.</p>" for source in sources)
    rows = []
    for model in models:
        energy, price = _load_energy(model, "1") or {}, (model.get("metrics") or {}).get("price_per_mtok")
        cells = [_joules(energy, "j_per_1k_tokens"), _joules(energy, "j_per_1k_tokens_above_idle")]
        cells += [_watts(energy.get("mean_w"), energy), _watts(energy.get("idle_w"), energy)]
        cells += [_money(price, "input"), _money(price, "output"), text(_cost(model))]
        how = text(" ".join(filter(None, (str(price["method"]), price.get("since"))))) if price else c.DASH
        cells.append(how)
        rows.append(row(text(c.name(model)), cells))
    heads = (
        ("Energy", "J per 1,000 tokens"), ("Above idle", "J per 1,000 tokens"), ("Power", "W"), ("Idle", "W"),
        ("Read", "per million tokens"), ("Written", "per million tokens"), ("1,000 requests", "of the lengths above"),
        ("Price from", ""),
    )  # fmt: skip
    titles = ["Model", *(f"{title} <small>{unit}</small>" for title, unit in heads)]
    if not (leaderboard.get("run") or {}).get("prices"):
        said += "<p>No prices: write them into prices.toml in $FAIRGROUND_HOME, or give --prices FILE.</p>"
    return said + table(titles, rows, label="Energy and price, one request at a time")


def _distribution(found: Any) -> str:
    found = found if isinstance(found, Mapping) else {}
    if found.get("p50") is None:
        return c.DASH
    rest = [_ms(found.get(f"p{p}")) for p in (95, 99)]
    return f"{_ms(found['p50'])}<small>{', '.join(rest)}, max {_ms(found.get('max'))}</small>"


def _ms(value: Any) -> str:
    found = c.estimate({"value": value})
    return c.DASH if found is None else f"{found.value:,.0f}" if found.value >= 100 else f"{found.value:.1f}"


def _rate(value: Any) -> str:
    found = c.estimate({"value": value})
    return c.DASH if found is None else f"{found.value:,.0f}" if found.value >= 100 else f"{found.value:.2g}"


def _share(goodput: Any) -> str:
    found = c.estimate({"value": (goodput or {}).get("share")})
    return c.DASH if found is None else f"{100 * found.value:.0f}"


def _joules(energy: Json | None, key: str) -> str:
    found = c.estimate({"value": (energy or {}).get(key)})
    return c.DASH if found is None else f"{'~' if energy and energy.get('estimate') else ''}{found.value:,.3g}"


def _watts(value: Any, energy: Json) -> str:
    found = c.estimate({"value": value})
    return c.DASH if found is None else f"{'~' if energy.get('estimate') else ''}{found.value:.1f}"


def _money(price: Any, key: str) -> str:
    found = c.estimate({"value": (price or {}).get(key)})
    if found is None:
        return c.DASH
    return f"{'~' if price.get('estimate') else ''}{found.value:.3g} {text(str(price['currency']))}"


def _cost(model: Json) -> str:
    cost = model.get("cost_per_1k_requests")
    return c.DASH if not cost else f"{'~' if cost['estimate'] else ''}{cost['value']:.3g} {cost['currency']}"


def _lengths(counts: Any) -> str:
    if not isinstance(counts, Mapping):
        return c.DASH
    return f"{counts['min']}" if counts["min"] == counts["max"] else f"{counts['min']}–{counts['max']}"
