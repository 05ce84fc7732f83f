"""What operators may say to a running fleet, and that nothing they send can harm it."""

import json
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pythia_core.supervisor.control import CONNECTIONS, LONGEST, Control, folder
from tests.supervisor.running import COMMAND, Running, environment, run
from tests.waiting import wait_until


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets whose path is short enough for one."""
    path = Path(tempfile.mkdtemp(prefix="pyc", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    shutil.rmtree(path)


class Served:
    """A control socket, served when the test says so."""

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.heard: list[dict[str, Any]] = []
        self.control = Control(path, self.selector, self.answer)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what the shell does: look up, or refuse by an error."""
        self.heard.append(request)
        return {"ok": request["do"]}

    def serve(self) -> None:
        """Serve all that has come."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                key.data()

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(str(self.control.path))
        self.serve()
        return connection


@pytest.fixture
def served(short: Path) -> Iterator[Served]:
    """A control socket that listens."""
    made = Served(short / "pythia" / "1.sock")
    made.control.open()
    yield made
    made.control.close()
    assert not made.control.path.exists()


def test_a_request_is_answered(served: Served) -> None:
    """Several on one connection, and in parts."""
    with served.connect() as connection:
        for part in (b'{"do": "sh', b'ow"}\n{"do": "pause"}\n'):
            connection.sendall(part)
            served.serve()
        assert connection.recv(1000) == b'{"ok":"show"}\n{"ok":"pause"}\n'


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"{}\n", b"5\n", b"x" * (LONGEST + 1), b"\xff\n", b'{"do":\n'],
)
def test_garbage_is_cut_off(served: Served, garbage: bytes) -> None:
    """Whoever sends it, and nobody else."""
    with served.connect() as connection, served.connect() as other:
        connection.sendall(garbage)
        served.serve()
        assert connection.recv(1000) == b""
        other.sendall(b'{"do": "show"}\n')
        served.serve()
        assert other.recv(1000) == b'{"ok":"show"}\n'


def test_only_so_many_are_heard_at_once(served: Served) -> None:
    """One more is cut off; when one has gone there is room again."""
    connections = [served.connect() for _ in range(CONNECTIONS)]
    with served.connect() as one_more:
        assert one_more.recv(1) == b""
    connections.pop().close()
    served.serve()
    with served.connect() as again:
        again.sendall(b'{"do": "show"}\n')
        served.serve()
        assert again.recv(1000)
    for connection in connections:
        connection.close()


def test_another_user_is_not_heard(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the folder lets him in."""
    monkeypatch.setattr("pythia_core.supervisor.control.struct.unpack", lambda *_: (1, 4711, 4711))
    with served.connect() as connection:
        assert connection.recv(1) == b""


def test_nobody_else_can_open_it(served: Served) -> None:
    """Neither the folder nor the socket."""
    assert served.control.path.stat().st_mode & 0o777 == 0o600
    assert served.control.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_to_is_refused(short: Path) -> None:
    """They could put a socket of their own there."""
    (short / "pythia").mkdir()
    (short / "pythia").chmod(0o777)
    with pytest.raises(OSError, match="others may write there"):
        Served(short / "pythia" / "1.sock").control.open()


def test_what_a_killed_supervisor_left_is_removed(short: Path, served: Served) -> None:
    """A socket that somebody listens to stays."""
    stale = short / "pythia" / "99.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    other = Served(short / "pythia" / "2.sock")
    other.control.open()
    assert not stale.exists()
    assert served.control.path.exists()
    other.control.close()


def test_without_a_runtime_folder_it_is_the_users_own_in_tmp() -> None:
    """Named by the user's number, so that users do not meet."""
    assert folder({}).parent == Path("/tmp")
    assert folder({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/pythia")


def pythia(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the command."""
    command = [*COMMAND, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, env=environment())


def said(*arguments: str) -> str:
    """Call the command, which has to succeed, and return what it prints."""
    done = pythia(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(running: Running) -> dict[str, Any]:
    """Return the fleet as `pythia top` sees it."""
    found: dict[str, Any] = json.loads(said("top", "--json", "--fleet", str(running.pid)))
    return found


def test_a_fleet_is_watched_scaled_and_paused(short: Path, tmp_path: Path) -> None:
    """By the real command from outside; a pause fetches nothing, and a process that starts meanwhile waits too."""
    with run(tmp_path) as running:
        running.wait_for("begin")
        running.wait_until_ready(1)
        assert said("pause") == "paused\n"
        running.wait_for_text("paused: nothing more is fetched")
        assert said("scale", "2") == "pinned to 2\n"
        running.wait_for("startup", 2)
        running.wait_for_text("is ready", 2)
        wait_until(lambda: "paused by an operator" in said("top", "--once"), "both say why they are idle")
        fleet = shown(running)
        assert (fleet["target"], fleet["ready"], fleet["paused"], fleet["pinned"]) == (2, 2, True, True)
        assert len(running.events("begin")) == 1
        (queue,) = fleet["queues"]  # asked for since somebody looks
        assert (queue["worker"], queue["waiting"] is None) == ("jobs", False)
        assert said("resume") == "goes on\n"
        running.wait_for("begin", 2)
        running.open_gate()
        running.wait_for("done", 2)
        assert said("scale", "auto") == "back at 1\n"
        running.wait_for_text("ended with exit code 0")
        wait_until(lambda: len(shown(running)["rows"]) == 1, "one is left")
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
    assert list((short / "pythia").iterdir()) == []


def test_a_pinned_number_ends_by_itself(short: Path, tmp_path: Path) -> None:
    """After the time that was said."""
    with run(tmp_path) as running:
        running.wait_until_ready(1)
        assert said("scale", "2", "--for", "1s") == "pinned to 2 for 1 s\n"
        running.wait_for_text("its time is up: 1 process")


def test_several_fleets_have_to_be_named(short: Path, tmp_path: Path) -> None:
    """The error names them."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with run(tmp_path / "a") as one, run(tmp_path / "b") as other:
        one.wait_until_ready(1)
        other.wait_until_ready(1)
        done = pythia("top")
        assert done.returncode == 1
        assert f"{one.pid} ({tmp_path}/a/jobs.py)" in done.stderr
        assert f"{other.pid} ({tmp_path}/b/jobs.py)" in done.stderr
        assert "1 of 1 ready" in said("top", "--fleet", str(one.pid))


def test_errors_say_what_to_do(short: Path) -> None:
    """No fleet, no such fleet, no number, no duration."""
    assert "no fleet of this user runs here" in pythia("top").stderr
    assert "no control socket" in pythia("pause", "--fleet", "4711").stderr
    assert "'0' is neither auto nor a number" in pythia("scale", "0").stderr
    assert "'1w' is no duration: 90, 90s, 15m, 1h and 1d are" in pythia("scale", "2", "--for", "1w").stderr
    assert "not with auto" in pythia("scale", "auto", "--for", "1h").stderr


def test_a_fleet_may_run_without(short: Path, tmp_path: Path) -> None:
    """Where it is not wanted, and where it cannot be made."""
    with run(tmp_path, "--control", "none") as running:
        running.wait_until_ready(1)
        assert not (short / "pythia").exists()
    with run(tmp_path, "--control", "/proc/no.sock") as running:
        running.wait_for_text("no control socket")
        running.wait_until_ready(1)
