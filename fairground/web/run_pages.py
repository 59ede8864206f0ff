"""Runs of `fairground rank`: the list, a summary of each, and its report with everything that the store keeps of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from fairground.errors import ArenaRefusal, StoreError
from fairground.evaluation import columns as c
from fairground.evaluation.report import finding, html_report
from fairground.evaluation.sentences import sentences
from fairground.store.database import Database
from fairground.store.runs import StoredRun, find_run, list_runs
from fairground.web.page import page
from fairground.web.site import site_of

router = APIRouter()
MOST_SENTENCES = 40
SUMMARY = ("accuracy", "coherence", "ttft_ms", "tokens_per_s")
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"')


@router.get("/runs")
def runs(request: Request) -> HTMLResponse:
    """All runs, the newest first."""
    found = list_runs(site_of(request).ledger.database)
    return page(
        request,
        "runs.html",
        runs=[{**_about(run), "models": [name.removesuffix(",shots=0") for name in run.models]} for run in found],
    )


@router.get("/runs/{id_}")
def run_page(request: Request, id_: str) -> HTMLResponse:
    """A run's summary. Raises ArenaRefusal (404) for none."""
    run = _run(request, id_)
    if run.finished is None:
        return page(request, "run.html", run=_about(run), finding="", heads=[], rows=[], said=[])
    leaderboard = _leaderboard(site_of(request).ledger.database, id_, run.finished)
    columns = [column for column in (*c.COLUMNS, *c.MORE) if column.metric in SUMMARY]
    rows = [
        {
            "model": c.name(model),
            "size": c.parameters(model),
            "cells": [_cell(column, model) for column in columns],
        }
        for model in c.ranked(leaderboard)
    ]
    return page(
        request,
        "run.html",
        run=_about(run),
        finding=finding(leaderboard),
        heads=[f"{column.title} {column.unit}".strip() for column in columns],
        rows=rows,
        said=sentences(leaderboard, most=8),
    )


@router.get("/runs/{id_}/report.html")
def report(request: Request, id_: str) -> Response:
    """The report as `rank` writes it, but for the answers, which lie in the folder that `rank` wrote alone."""
    run = _run(request, id_)
    if run.finished is None:
        raise ArenaRefusal("This run has not finished, so it has no report; the same command goes on with it.", 404)
    html = _report(site_of(request).ledger.database, id_, run.finished)
    found = _POLICY.search(html)
    assert found is not None  # the page lets no script run but its own
    policy = f"{found[1].replace('&#x27;', chr(39))}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    return HTMLResponse(html, headers={"content-security-policy": policy})


def _run(request: Request, id_: str) -> StoredRun:
    found = next((run for run in list_runs(site_of(request).ledger.database) if run.id == id_), None)
    if found is None:
        raise ArenaRefusal("There is no run of that id; the list of runs has those that there are.", 404)
    return found


@lru_cache(maxsize=32)
def _leaderboard(database: Database, id_: str, finished: float) -> dict[str, Any]:
    try:
        return find_run(database, id_)[0]
    except StoreError as error:
        raise ArenaRefusal(str(error), 404) from error


@lru_cache(maxsize=16)
def _report(database: Database, id_: str, finished: float) -> str:
    leaderboard = _leaderboard(database, id_, finished)
    return html_report(leaderboard, [], sentences(leaderboard, most=MOST_SENTENCES))


def _about(run: StoredRun) -> dict[str, Any]:
    begun = datetime.fromtimestamp(run.begun, UTC)
    minutes = None if run.finished is None else (run.finished - run.begun) / 60
    return {
        "id": run.id,
        "suite": run.suite,
        "begun": begun.strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        "count": len(run.models),
        "finished": run.finished is not None,
        "took": "" if minutes is None else f"{minutes:.0f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds",
        "kept": run.kept,
    }


def _cell(column: c.Column, model: Any) -> tuple[str, str]:
    """The number and its interval; a dash for what was not measured."""
    found = column.of(model)
    return (c.DASH, "") if found is None else (column.number(found.value), column.interval(found) or "")
