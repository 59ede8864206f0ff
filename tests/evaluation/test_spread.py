"""A run that is spread over workers writes the same bytes as one that is not, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from bigram_model import Bigram
from command import COMMAND, in_this_process

from fairground.errors import ClusterError, ConfigError
from fairground.evaluation import Entrant, Progress, Run, Suite, UniformGuesser, load_suite, rank
from fairground.evaluation.files import scores_text
from fairground.evaluation.on_ray import OnRay, Worker, WorkerModel
from fairground.evaluation.spread import STRETCH, Found, Shard, spread
from fairground.evaluation.suite import cut
from fairground.evaluation.tasks import WrittenTask
from fairground.store import RunJournal, begin_run, open_database

ENTRANTS = [Entrant("bigram", Bigram), Entrant("bigram", Bigram, shots=2), Entrant("uniform", UniformGuesser)]
LIMIT = 30


def same() -> str:
    return ""


def refuse() -> Any:
    raise ConfigError("There is no room for it.")


MODELS = {"bigram": WorkerModel("", same, Bigram), "uniform": WorkerModel("", same, UniformGuesser)}


@pytest.fixture(scope="module")
def suite() -> Suite:
    return cut(load_suite("house"), ["healthcare", "reading", "relations", "order_swapped", "open", "german"])


@pytest.fixture(scope="module")
def unspread(suite: Suite) -> Run:
    return rank(ENTRANTS, suite, limit=LIMIT)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[RunJournal]:
    with open_database(f"sqlite:///{tmp_path / 'runs.db'}") as database:
        begin_run(database, "run", "house", [])
        yield RunJournal(database, "run")


def here(shards: Sequence[Shard], models: dict[str, WorkerModel] = MODELS) -> Iterator[tuple[Shard, Found]]:
    """Two workers in this process that take shards in no order, and get and give everything pickled."""
    workers = [Worker(models), Worker(models)]
    for shard in random.Random(1).sample(shards, len(shards)):
        yield shard, pickle.loads(pickle.dumps(workers[shard.shots % 2].measure(pickle.loads(pickle.dumps(shard)))))


def counted(calls: list[int]) -> Callable[[], Bigram]:
    def opened() -> Bigram:
        model = Bigram()
        model.calls = calls
        return model

    return opened


def test_the_same_bytes_in_any_order(suite: Suite, unspread: Run, journal: RunJournal) -> None:
    progress: list[Progress] = []
    entrants = spread(
        ENTRANTS,
        suite,
        here,
        journal,
        models=MODELS,
        limit=LIMIT,
        progress=progress.append,
    )
    assert progress[0].done == 0
    assert progress[-1].done == progress[-1].total > 300
    asked: list[int] = []
    entrants = [e if e.name == "uniform" else Entrant(e.name, counted(asked), e.shots) for e in entrants]
    run = rank(entrants, suite, limit=LIMIT, journal=journal)
    assert asked == []  # nothing was left to be scored
    assert scores_text(run) == scores_text(unspread)
    assert [json.dumps(s) for s in run.samples] == [json.dumps(s) for s in unspread.samples]


def test_what_is_interrupted_goes_on(suite: Suite, unspread: Run, journal: RunJournal) -> None:
    sizes: list[int] = []

    def interrupted(shards: Sequence[Shard]) -> Iterator[tuple[Shard, Found]]:
        sizes.extend(map(len, shards))
        for number, result in enumerate(here(shards)):
            if number == 5:
                raise KeyboardInterrupt
            yield result

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            spread(ENTRANTS, suite, interrupted, journal, models=MODELS, limit=LIMIT)
    assert max(sizes) <= STRETCH
    spread(ENTRANTS, suite, here, journal, models=MODELS, limit=LIMIT)
    assert spread(ENTRANTS, suite, refuse_to_start, journal, models=MODELS, limit=LIMIT) == ENTRANTS
    assert scores_text(rank(ENTRANTS, suite, limit=LIMIT, journal=journal)) == scores_text(unspread)


def refuse_to_start(shards: Sequence[Shard]) -> Iterator[tuple[Shard, Found]]:
    raise AssertionError("there is nothing left to measure")


def test_a_failing_model_is_an_error_of_its_row(suite: Suite, unspread: Run, journal: RunJournal) -> None:
    models = {**MODELS, "bigram": WorkerModel("", same, refuse)}
    entrants = spread(ENTRANTS, suite, partial(here, models=models), journal, models=models, limit=LIMIT)
    entrants.append(Entrant("here", Bigram))
    run = rank(entrants, suite, limit=LIMIT, journal=journal)
    rows = {entry["model"]: entry for entry in run.leaderboard["models"]}
    assert rows["bigram"]["errors"] == ["There is no room for it."]
    assert rows["uniform"]["errors"] == rows["here"]["errors"] == []
    assert rows["uniform"]["metrics"]["accuracy"] == next(
        entry["metrics"]["accuracy"] for entry in unspread.leaderboard["models"] if entry["model"] == "uniform"
    )


def test_a_worker_says_what_it_lacks(suite: Suite) -> None:
    written = suite.of(WrittenTask)
    assert Worker(MODELS).ready(written)[1] is None
    other = Worker({"bigram": WorkerModel("", lambda: "x", Bigram)})
    assert other.ready(written)[1].startswith("bigram is made of other files there")
    assert Worker({"bigram": WorkerModel("", refuse, Bigram)}).ready(written)[1] == "There is no room for it"


@pytest.mark.parametrize(
    ("on", "named"),
    [("ray://127.0.0.1:9", "ray://127.0.0.1:9"), ("slurm", "--on slurm names no cluster"), ("ray", "127.0.0.1:9")],
)
def test_no_cluster(
    on: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    command = in_this_process(tmp_path, monkeypatch, capfd)
    command("rank", "uniform", "--limit", "1", "--on", on).refused(named)


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    command = in_this_process(tmp_path, monkeypatch, capfd)
    command("rank", "uniform", "--limit", "1", "--on", "ray").refused("pip install 'fairground[ray]'")


# With Ray itself.


def dies_once(mark: Path) -> Any:
    """A bigram, but whoever opens it first is killed."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return Bigram()
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def dies() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def ours() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find these models, as they would find an installed package."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, importable: None) -> Callable[..., OnRay]:
    """A cluster of two workers on this machine for each run."""
    monkeypatch.setattr("fairground.evaluation.on_ray.cores", lambda: 2)
    said: list[str] = []

    def make(models: dict[str, WorkerModel]) -> OnRay:
        workers = OnRay(models, address=None, threads=1, notice=said.append)
        workers.said = said  # type: ignore[attr-defined]
        return workers

    return make


@pytest.mark.verify
def test_a_local_cluster_a_killed_worker_and_a_fatal_model(
    suite: Suite, unspread: Run, journal: RunJournal, local: Callable[..., Any], tmp_path: Path
) -> None:
    entrants = [*ENTRANTS, Entrant("fatal", Bigram)]
    models = {
        "bigram": WorkerModel("", same, partial(dies_once, tmp_path / "mark")),
        "uniform": MODELS["uniform"],
        "fatal": WorkerModel("", same, dies),
    }
    workers = local(models)
    spread_to = spread(entrants, suite, workers, journal, models=models, limit=LIMIT)
    assert (tmp_path / "mark").exists()
    assert sum("died; the" in said for said in workers.said) == 3  # one for the mark, two for the fatal model
    assert ours() == []
    run = rank(spread_to, suite, limit=LIMIT, journal=journal)
    rows = {entry["model"]: entry for entry in run.leaderboard["models"]}
    assert rows["fatal"]["errors"][0].startswith("3 workers died measuring it")
    whole = [line for line in scores_text(run).splitlines() if json.loads(line)["model"] != "fatal"]
    assert whole == scores_text(unspread).splitlines()


@pytest.mark.verify
def test_a_worker_that_lacks_something_ends_the_run(
    suite: Suite, journal: RunJournal, local: Callable[..., Any]
) -> None:
    workers = local({"bigram": WorkerModel("", refuse, Bigram)})
    with pytest.raises(ClusterError, match=r"on .*127\.0\.0\.1.* cannot take part: There is no room for it;"):
        spread(ENTRANTS[:1], suite, workers, journal, models=workers.models, limit=LIMIT)
    assert ours() == []


@pytest.mark.verify
def test_a_cluster_of_two_machines_of_which_one_fails(
    suite: Suite, unspread: Run, journal: RunJournal, importable: None
) -> None:
    said: list[str] = []
    workers = OnRay(MODELS, address=None, threads=1, notice=said.append)  # sets what keeps Ray on the loopback
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False},
    )
    try:
        second = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        workers.address = cluster.address
        first = []

        def keep(model: str, task: str, shots: int, entries: Sequence[Any]) -> None:
            kept(model, task, shots, entries)
            if not first:
                first.append(len(workers.workers))
                cluster.remove_node(second, allow_graceful=False)

        kept, journal.keep = journal.keep, keep  # type: ignore[method-assign]
        spread(ENTRANTS, suite, workers, journal, models=MODELS, limit=LIMIT)
    finally:
        cluster.shutdown()
    assert first
    assert scores_text(rank(ENTRANTS, suite, limit=LIMIT, journal=journal)) == scores_text(unspread)


@pytest.mark.verify
def test_the_command_and_ctrl_c(tmp_path: Path) -> None:
    home = {**os.environ, "FAIRGROUND_HOME": str(tmp_path / "home")}
    home.pop("RAY_ADDRESS", None)
    model = "commons-gpt2-4m"
    tasks = ["--tasks", "healthcare,relations,order_swapped,open", "--limit", "8"]
    command = [str(COMMAND), "rank", model, "uniform", *tasks, "--threads", "1", "--scorer", model]
    done = subprocess.run(
        [*command, "--out", "one"], cwd=tmp_path, env=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Ray's processes are in the group of the terminal, as a person's are.
    started = subprocess.Popen(
        [*command, "--on", "ray", "--out", "many"], cwd=tmp_path, env=home, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process = psutil.Process(started.pid)
    while not (workers := [p for p in process.children(recursive=True) if "Worker" in p.name() or "Worker" in cmd(p)]):
        assert started.poll() is None, started.communicate()
    children = process.children(recursive=True)
    for connection in [c for p in children for c in p.net_connections() if c.status == psutil.CONN_LISTEN]:
        assert connection.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    os.killpg(started.pid, signal.SIGINT)
    out, said = started.communicate(timeout=120)
    assert started.returncode not in (0, 2), said
    assert out == ""
    assert "Traceback" not in said
    _, alive = psutil.wait_procs([*children, *workers], timeout=30)
    assert not alive
    assert not (tmp_path / "many").exists()
    done = subprocess.run(
        [*command, "--on", "ray", "--out", "many", "--json"], cwd=tmp_path, env=home, capture_output=True, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, range(os.cpu_count() or 1)),  # a worker for every core
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["run"]["environment"]["workers"]) >= 2
    for name in ("scores.jsonl", "samples.jsonl"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def cmd(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
