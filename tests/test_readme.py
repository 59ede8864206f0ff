"""Everything that the README shows is run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from fairground.loop.ledger import Ledger
from fairground.loop.people import People
from fairground.store import default_database, open_database

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("#  ")[0].strip() for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
SERVE = [command for command in COMMANDS if command.startswith("fairground serve")]
UP = [command for command in COMMANDS if command.startswith("fairground up")]
(ARENA,) = [text.splitlines() for kind, text in BLOCKS if kind == "console" and "fairground leaderboard" in text]
FAIRGROUND = [
    command for command in COMMANDS if command.startswith("fairground") and command not in (*SERVE, *UP, *ARENA)
]
MAKE = [command for command in COMMANDS if command.startswith("make")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Path:
    """A state folder of its own, shared by the commands as on a person's machine."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "notes.txt").write_text(README, encoding="utf-8")
    return folder


def installed(command: str) -> list[str]:
    return [str(Path(sys.executable).with_name("fairground")), *shlex.split(command)[1:]]


def environment(home: Path) -> dict[str, str]:
    return {"FAIRGROUND_HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(home)}


def run(arguments: list[str], home: Path) -> str:
    done = subprocess.run(
        arguments, cwd=home, capture_output=True, text=True, timeout=900, check=False, env=environment(home)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_is_of_a_kind_that_is_run() -> None:
    assert len(FAIRGROUND) >= 6
    assert sorted([*FAIRGROUND, *SERVE, *UP, *ARENA, *MAKE]) == sorted(COMMANDS)


def test_the_commands(home: Path) -> None:
    shown = {command: run(installed(command), home) for command in FAIRGROUND}
    assert "GPT 4" in shown["fairground rate --record"]
    assert "Paris" in shown['fairground chat smollm2 -p "What is the capital of France?"']
    assert (home / "rank" / "report.html").is_file()


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_targets(command: str) -> None:
    target = command.split()[1]
    subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_the_python(home: Path) -> None:
    (script,) = [text for kind, text in BLOCKS if kind == "python" and "OpenAI" not in text]
    assert "Score(logprob=" in run([sys.executable, "-c", script], home)


@contextmanager
def started(command: str, home: Path) -> Iterator[str]:
    """The address of a server that a command starts on a free port."""
    with subprocess.Popen(
        [*installed(command), "--port", "0"], cwd=home, env=environment(home), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            (address,) = re.findall(r"http://[\d.]+:\d+", server.stdout.readline())
            yield address
        finally:
            server.terminate()


def test_the_server(home: Path) -> None:
    (command,), (script,) = SERVE, [text for kind, text in BLOCKS if kind == "python" and "OpenAI" in text]
    with started(command, home) as address:
        assert "blue" in run([sys.executable, "-c", script.replace("http://127.0.0.1:8000", address)], home).lower()


def test_the_arena(home: Path) -> None:
    (command,) = UP
    with started(command, home) as address, urlopen(f"{address}/") as page:
        assert "say which is better" in page.read().decode()
    with open_database(default_database(home)) as database:
        ledger = Ledger(database)
        sessions = [People(ledger).guest().session for _ in range(4)]
        for number in range(120):
            session = sessions[number % 4]
            models = ("smollm2", "commons-5gram") if number % 2 else ("commons-5gram", "smollm2")
            battle = ledger.open_battle(session.person.id, *models, session=session.id)
            winner = ("model_b", "model_a", "tie", "model_a", "model_b")[number % 5]
            facts = {"style": [number % 3 - 1, 0, 0, (number % 7 - 3) / 7]}
            ledger.vote(battle.id, battle.token, session.id, winner, facts=facts)
    shown = [run(installed(command), home) for command in ARENA]
    assert "120 votes" in shown[0]
    assert "The log is whole" in shown[1]
    assert "120 votes" in shown[2]
    assert "smollm2" in shown[3]


def test_links_lead_somewhere() -> None:
    findings = [str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")]
    for page in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "CHANGELOG.md", "data/CARD.md", *findings):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
