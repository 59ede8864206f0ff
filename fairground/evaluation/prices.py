"""Prices: a table that the user owns, and what it makes of a run.

[prices."openai:MODEL@https://host/v1"]     # a model as `fairground rank` was given it
input = 0.15                                # for a million tokens that it reads
output = 0.60                               # for a million that it writes
currency = "USD"
since = 2026-01-15                          # may be left out: when the price was looked up

[electricity]                               # for models without a price that run here
per_kwh = 0.31
currency = "EUR"
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from fairground.errors import DataError, SuiteError
from fairground.evaluation.settings import Settings

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Price:
    """For a million tokens read and a million written."""

    input: float
    output: float
    currency: str
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Electricity:
    """What a kilowatt-hour costs."""

    per_kwh: float
    currency: str
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The whole table; `file` is its name."""

    file: str
    models: Mapping[str, Price]
    electricity: Electricity | None = None


def read_prices(path: Path) -> Prices:
    """Raises DataError, with file and line, for a file that cannot be read or says what is no price."""
    try:
        source = path.read_text(encoding="utf-8")
        top = Settings(path, "", tomllib.loads(source), source)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); name a file of prices, or leave --prices out."
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as such.") from None
    except tomllib.TOMLDecodeError as error:
        what, line = str(error), re.search(r"line (\d+)", str(error))
        number = int(line[1]) if line else source.count("\n") + 1
        raise DataError(f"{path}:{number}: this is not TOML ({what}); correct it.") from None
    try:
        top.known({"prices", "electricity"})
        tables = top.table("prices").data
        models = {name: _price(_table_of(top, name, value)) for name, value in tables.items()}
        electricity = _electricity(top.table("electricity")) if "electricity" in top.data else None
    except SuiteError as error:
        raise DataError(str(error)) from None
    return Prices(path.name, models, electricity)


def _table_of(top: Settings, name: str, value: Any) -> Settings:
    """One model's table, called as the file calls it, so that an error finds its line."""
    headers = (f"prices.{quoted}" for quoted in (f'"{name}"', f"'{name}'", name))
    at = next((header for header in headers if f"[{header}]" in top.source), f"prices.{name}")
    if not isinstance(value, dict):
        raise Settings(top.path, "prices", {}, top.source).error(
            f'a price is a table; write [prices."{name}"] and below it input, output and currency', name
        )
    return Settings(top.path, at, value, top.source)


def _price(table: Settings) -> Price:
    table.known({"input", "output", "currency", "since"})
    return Price(_amount(table, "input"), _amount(table, "output"), _currency(table), _since(table))


def _electricity(table: Settings) -> Electricity:
    table.known({"per_kwh", "currency", "since"})
    return Electricity(_amount(table, "per_kwh"), _currency(table), _since(table))


def _amount(table: Settings, key: str) -> float:
    value = table.data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise table.error(f"{key!r} must be a number of at least 0; set it", key)
    return float(value)


def _currency(table: Settings) -> str:
    code = table.text("currency")
    if not re.fullmatch("[A-Z]{3}", code):
        raise table.error(f"the currency is {code!r}, but must be three capital letters, such as USD", "currency")
    return code


def _since(table: Settings) -> date | None:
    value = table.data.get("since")
    if value is not None and (not isinstance(value, date) or isinstance(value, datetime)):
        raise table.error("'since' must be a date such as 2026-01-15, without quotes; correct it", "since")
    return value


def priced(leaderboard: Mapping[str, Any], prices: Prices | None) -> dict[str, Any]:
    """The leaderboard with `price_per_mtok` and the cost of 1,000 requests for every model whose price is known.

    A model's own price goes first; without one, one that ran here costs the electricity of its energy at concurrency 1,
    which is an estimate where the energy is one. Whose price is not in the table gets a note that says so.
    """
    if prices is None:
        return dict(leaderboard)
    models = [_with_price(model, prices) for model in leaderboard["models"]]
    electricity = prices.electricity
    about = {
        "file": prices.file,
        "electricity": None
        if electricity is None
        else {"per_kwh": electricity.per_kwh, "currency": electricity.currency, **_dated(electricity.since)},
    }
    return {**leaderboard, "run": {**leaderboard["run"], "prices": about}, "models": models}


def _with_price(model: Mapping[str, Any], prices: Prices) -> dict[str, Any]:
    alone = (model.get("response_time") or {}).get("1") or {}
    price = prices.models.get(re.sub(r" \(\d+-shot\)$", "", model["model"]))
    if price is not None:
        found = {
            "value": price.output,
            "input": price.input,
            "output": price.output,
            "currency": price.currency,
            **_dated(price.since),
            "method": prices.file,
            "estimate": False,
        }
    elif prices.electricity is not None and (energy := alone.get("energy")):
        kwh_per_mtok = energy["j_per_1k_tokens"] * 1000 / JOULES_PER_KWH
        found = {
            "value": kwh_per_mtok * prices.electricity.per_kwh,
            "input": None,
            "output": kwh_per_mtok * prices.electricity.per_kwh,
            "currency": prices.electricity.currency,
            **_dated(prices.electricity.since),
            "method": "electricity alone, all of it put down to the output",
            "estimate": energy["estimate"],
        }
    elif model.get("parameters") == 0:
        return dict(model)
    else:
        return {**model, "notes": [*model["notes"], f"Its price is not known: {prices.file} has none for it."]}
    found |= {"low": None, "high": None, "n": None}
    priced_model = {**model, "metrics": {**model["metrics"], "price_per_mtok": found}}
    if alone.get("requests"):
        read, written = (alone[key]["mean"] for key in ("prompt_tokens", "output_tokens"))
        # Per token a millionth, for a thousand requests.
        cost = (read * (found["input"] or 0) + written * found["output"]) / 1000
        priced_model["cost_per_1k_requests"] = {
            "value": cost,
            "currency": found["currency"],
            "prompt_tokens": read,
            "output_tokens": written,
            "estimate": found["estimate"],
        }
    return priced_model


def _dated(since: date | None) -> dict[str, str | None]:
    return {"since": since.isoformat() if since else None}
