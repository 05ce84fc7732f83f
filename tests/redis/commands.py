"""The real command on a worker file of the test's own, and what the worker writes down in its folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.redis import RedisServer


def lines(path: Path) -> list[str]:
    """Return what was written down."""
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def pythia(
    folder: Path, server: RedisServer, text: str, *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker file by the command."""
    (folder / "worker.py").write_text(text)
    environ = {**os.environ, "REDIS_URL": server.url, "HERE": str(folder), "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from pythia_core.command import main; main(prog_name='pythia')", "run"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(folder / "worker.py"), *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
