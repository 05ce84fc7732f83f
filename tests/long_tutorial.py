"""The tutorial: every block of it, in its order, in one folder, on a real Redis: twenty commands, so `nox -s tutorial`.

It stands apart from the other pages' test, which runs its Python each time, because its blocks are steps: files, commands,
and fleets that run beside them. A block named after a file is saved as one, a shell's is run to its end, and one called
``background`` until the next of them.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import redis

from pythia_core.supervisor.control import request
from tests.servers.redis import RedisServer
from tests.servers.server import free_port
from tests.waiting import wait_until

TUTORIAL = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)


@attrs.define(eq=False)
class Reader:
    """Somebody who does what the tutorial says."""

    folder: Path
    environ: dict[str, str]
    client: "redis.Redis"
    port: int = attrs.field(factory=free_port)
    fleet: "subprocess.Popen[bytes] | None" = None
    said: str = ""

    def shell(self, code: str) -> str:
        """Run commands to their end; return what they printed."""
        self.before(code)
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code.replace("9464", str(self.port))],
            check=False,
            cwd=self.folder,
            env={**self.environ, "PYTHIA_LISTEN": str(self.port)} if "explain" in code else self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, f"{code}\n{result.stdout}{result.stderr}"
        return result.stdout

    def before(self, code: str) -> None:
        """Wait for what the text says has happened by now."""
        if "dead-letters list" in code:
            wait_until(lambda: self.client.xlen("payments:dlq") == 2, "two are dead", seconds=30)
        if "loadtest" in code:
            self.stop()

    def background(self, code: str) -> None:
        """Stop the fleet that runs, and start this one; return when all of it is ready."""
        self.stop()
        command = code.replace("9464", str(self.port)).split()
        with (self.folder / "output").open("wb") as output, (self.folder / "errors").open("wb") as errors:
            self.fleet = subprocess.Popen(
                command, cwd=self.folder, env=self.environ, stdout=output, stderr=errors
            )
        wait_until(self.ready, "the fleet is ready", seconds=30)

    def ready(self) -> bool:
        """Tell whether all processes consume."""
        assert self.fleet is not None and self.fleet.poll() is None, (self.folder / "errors").read_text()
        socket = self.folder / "pythia" / f"{self.fleet.pid}.sock"
        shown = request(socket, {"do": "show"}) if socket.exists() else {"ready": 0, "target": 1}
        return bool(shown["ready"] == shown["target"])

    def stop(self) -> None:
        """End the fleet as Ctrl-C does."""
        if self.fleet is not None:
            self.fleet.send_signal(signal.SIGINT)
            assert self.fleet.wait(30) == 0, (self.folder / "errors").read_text()
            self.fleet = None


@pytest.fixture
def reader(redis_server: RedisServer, tmp_path: Path) -> Iterator[Reader]:
    """A reader with a folder, a Redis and a place for control sockets."""
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REDIS_URL": redis_server.url,
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    with redis.Redis.from_url(redis_server.url) as client:
        reader = Reader(tmp_path, environ, client)
        try:
            yield reader
        finally:
            if reader.fleet is not None:
                reader.fleet.kill()
                reader.fleet.wait(10)


def test_the_tutorial(reader: Reader) -> None:
    """Every step does what the text says."""
    said = ""
    for language, name, code in BLOCKS:
        if language == "python":
            (reader.folder / name).write_text(code)
        elif name == "background":
            reader.background(code)
            if "-n" not in code and "paid" not in said:
                said += first_payments(reader)
        else:
            said += reader.shell(code)
    for expected in (
        "good to run",
        "3 sent",
        "2 passed",
        "field id is not int",
        "the bank does not answer",
        "1 would be replayed",
        'outcome="done"',
        "2 of 2 ready",
        "each of 400 was processed once",
    ):
        assert expected in said, said
    assert reader.client.xpending("payments", "payments")["pending"] == 0


def first_payments(reader: Reader) -> str:
    """Return what the first worker prints."""
    output = reader.folder / "output"
    wait_until(lambda: output.read_text() == "paid 1\npaid 2\npaid 3\n", "three are paid", seconds=30)
    return output.read_text()
