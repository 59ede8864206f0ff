"""A local model, our own server, and servers that misbehave, ranked in one command."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Command
from fake_server import FakeServer, Fault

from fairground.evaluation.measure import ATTEMPTS
from fairground.remote import transport

MODEL = "commons-llama-4m"
TASKS = "healthcare,order_random,open"


def test_each_is_treated_as_it_deserves(
    start: Callable[..., tuple[subprocess.Popen[str], str]],
    serve: Callable[..., FakeServer],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.004)
    _, url = start(MODEL, "--deterministic", "--threads", 1)
    served = f"openai:{MODEL}@{url}/v1"
    moody = serve(echo=False, faults_spare_one_token=True)  # it cannot score, and answers at the second or third time
    moody.faults = [
        Fault(429, {"retry-after": "0.01"}),
        *[Fault()] * 6,  # the response time
        Fault(raw="data: {nonsense\n\n"),
        Fault(cut_after=3),
        Fault(end_after=2),
    ]
    mute = serve(faults_spare_one_token=True)  # scores, and never comes to the end of an answer
    mute.faults = [Fault(end_after=1)] * 1000
    broken = serve()
    broken.faults = [Fault(500)] * 1000
    gone = serve()
    gone.close()
    others = [server.reference for server in (moody, mute, broken, gone)]
    done = command(
        "rank", MODEL, served, *others, "--limit", "4", "--tasks", TASKS, "--scorer", MODEL, "--threads", "1", "--json"
    )
    assert done.status == 0, done.err
    board = {model["model"]: model for model in json.loads(done.out)["models"]}
    assert set(board) == {MODEL, served, *others}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in Path("rank/scores.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row.pop("model")].append(row)

    local, ours = board[MODEL], board[served]
    assert {"accuracy", "coherence", "relevance", "ttft_ms"} <= set(local["metrics"])
    assert set(local["metrics"]) - {"energy_j_per_1k_tokens"} == set(ours["metrics"])  # a server's is not known
    assert (local["errors"], ours["errors"]) == ([], [])
    assert rows[MODEL] == rows[served]

    patient = board[moody.reference]
    assert not {"accuracy", "coherence"} & set(patient["metrics"])
    assert any("cannot score" in note for note in patient["notes"])
    assert patient["metrics"]["relevance"]["n"] == 4
    assert (moody.faults, patient["errors"]) == ([], [])

    silent = board[mute.reference]
    assert {"accuracy", "coherence"} <= set(silent["metrics"])
    assert not {"relevance", "ttft_ms"} & set(silent["metrics"])
    assert [error.split(":")[0] for error in silent["errors"]] == ["response_time", "open"]
    assert "4 of 4 items could not be measured" in silent["errors"][1]
    assert len(mute.bodies("/v1/completions")) + len(mute.bodies("/v1/chat/completions")) >= 4 * ATTEMPTS

    for server, words in ((broken, "error 500"), (gone, "no connection")):
        assert board[server.reference]["metrics"] == {}
        assert rows[server.reference] == []
        assert words in " ".join(board[server.reference]["errors"])
    assert {model["model"] for model in json.loads(done.out)["models"][:2]} <= {MODEL, served, mute.reference}
    compared = {pair[side] for pair in json.loads(done.out)["comparisons"] for side in ("a", "b")}
    assert not {broken.reference, gone.reference} & compared
