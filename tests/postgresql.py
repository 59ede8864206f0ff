"""Debian's PostgreSQL, started for a test run by somebody without rights, in a folder of its own, on a socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def programs() -> Path | None:
    """The folder with initdb and postgres: on the path, or where Debian has them."""
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


@contextmanager
def server() -> Iterator[str]:
    """A running server, as the folder of its socket; a skipped test that says why where there can be none."""
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg: pip install 'fairground[postgres]'")
    found = programs()
    if found is None:
        pytest.skip("needs PostgreSQL's own programs: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="fairground-pg-"))
    who: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}}
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        made = subprocess.run(
            [found / "initdb", "-D", folder / "data", "-U", "fairground", "-A", "trust", "-E", "UTF8", "--no-sync"],
            capture_output=True, text=True, check=False, **who,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"PostgreSQL's initdb did not do its work: {made.stderr.strip()[-300:]}")
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                [found / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
                stdout=said, stderr=said, **who,
            )  # fmt: skip
        try:
            for _ in range(300):
                try:
                    psycopg.connect(host=str(folder), user="fairground", dbname="postgres").close()
                    break
                except psycopg.OperationalError:
                    if process.poll() is not None:
                        break
                    time.sleep(0.1)
            else:
                pytest.skip("PostgreSQL did not answer within 30 s")
            if process.poll() is not None:
                pytest.skip(f"PostgreSQL did not start: {(folder / 'said').read_text()[-300:]}")
            yield str(folder)
        finally:
            process.send_signal(signal.SIGINT)  # ends sessions and itself
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(folder: str, name: str, template: str = "template0") -> str:
    """The address of a new database, empty or a copy of another, to which nobody may be connected."""
    import psycopg

    with psycopg.connect(host=folder, user="fairground", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return f"postgresql+psycopg://fairground@/{name}?host={folder}"
