"""A server can be paused, killed and restarted, and never outlives the run: what the broker tests build on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from tests.servers import server as servers
from tests.servers.fixtures import OwnRedis
from tests.servers.redis import RedisServer
from tests.servers.server import MissingBroker, ServerFailed, free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]


@contextmanager
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """Connect for one block, with short patience and no second try."""
    with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None, decode_responses=True) as connected:
        yield connected


def is_alive(pid: int) -> bool:
    """Tell a living process from a dead one that nobody has reaped yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_started_server_serves(redis_server: RedisServer) -> None:
    """start() returns when clients are served, not before."""
    with client(redis_server) as connected:
        connected.set("key", "value")
        assert connected.get("key") == "value"


def test_the_shared_server_is_empty(redis_server: RedisServer) -> None:
    """A test finds nothing of the test before it."""
    with client(redis_server) as connected:
        assert connected.dbsize() == 0


def test_a_paused_server_does_not_answer_until_resumed(own_redis: OwnRedis) -> None:
    """A pause looks like a black hole: the connection stands, and nobody answers."""
    server = own_redis()
    server.pause()
    with client(server) as connected, pytest.raises(redis.TimeoutError):
        connected.ping()
    server.resume()
    with client(server) as connected:
        assert connected.ping()


def test_a_paused_server_can_be_stopped(own_redis: OwnRedis) -> None:
    """SIGTERM reaches a paused server, which need not be killed."""
    server = own_redis()
    server.pause()
    server.stop()
    assert not server.running
    assert "is now ready to exit" in server.log.read_text()  # Redis or Valkey


@pytest.mark.parametrize(("durable", "kept"), [(True, "value"), (False, None)])
def test_a_killed_server_comes_back_on_its_port(own_redis: OwnRedis, durable: bool, kept: str | None) -> None:
    """Only a durable server keeps what it had confirmed; both come back where clients look for them."""
    server = own_redis(durable=durable)
    port, pid = server.port, server.pid
    with client(server) as connected:
        connected.set("key", "value")
    server.kill()
    with client(server) as connected, pytest.raises(redis.ConnectionError):
        connected.ping()
    server.restart()
    assert server.port == port
    assert server.pid != pid
    with client(server) as connected:
        assert connected.get("key") == kept


def test_a_server_that_cannot_start_shows_its_log(own_redis: OwnRedis) -> None:
    """Who reads the failure need not look for the log."""
    taken = own_redis()
    second = RedisServer(port=taken.port)
    with pytest.raises(ServerFailed, match="Address already in use"), second:
        pytest.fail("It started on a port in use.")


def test_a_missing_broker_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the program and the command that installs it."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(RedisServer, "program", "redis-server")
    with pytest.raises(MissingBroker, match=r"redis-server is not on this machine.*nox -s brokers"):
        RedisServer(folder=tmp_path).start()


@pytest.mark.usefixtures("redis_server")
def test_a_server_dies_with_the_run(tmp_path: Path) -> None:
    """A killed test run leaves no broker behind."""
    script = (
        "import time; from pathlib import Path; from tests.servers.redis import RedisServer\n"
        f"server = RedisServer(folder=Path({str(tmp_path)!r})); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert is_alive(pid)
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the server had died")


def test_ports_lie_below_the_ephemeral_range() -> None:
    """A client that dials a dead server's port is never given that port as its own."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() in servers.PORTS
    assert servers.PORTS.stop <= first_ephemeral
