"""Probes of a real fleet whose broker dies and whose handler hangs: an orchestrator is told, and given no reason to kill."""

import signal
from pathlib import Path

import pytest
import redis

from tests.metrics.running import get
from tests.servers.fixtures import OwnRedis
from tests.servers.server import free_port
from tests.supervisor.running import run
from tests.waiting import wait_until

WORKER = """
import time
from pathlib import Path

from pythia import Worker
from pythia.brokers.redis import RedisStreamsConsumer
from pythia.config import WorkerConfig

HERE = Path(__file__).parent


class Orders(Worker):
    source = RedisStreamsConsumer(stream="orders", consumer_group="g", url="URL")
    config = WorkerConfig(drain_timeout=3)

    async def process(self, message):
        (HERE / "begun").touch()
        while not (HERE / "gate").exists():
            time.sleep(0.01)
        (HERE / "done").touch()
"""


@pytest.mark.slow
def test_no_state_of_a_broker_or_a_handler_asks_for_a_restart(tmp_path: Path, own_redis: OwnRedis) -> None:
    """Live and started all the time, ready or not with the reason in our words, and well again by itself."""
    server, port = own_redis(), free_port()
    with run(tmp_path, "--listen", str(port), text=WORKER.replace("URL", server.url)) as running:
        wait_until(lambda: get(port, "/readyz")[0] == 200, "it is ready")
        server.kill()
        wait_until(lambda: get(port, "/readyz")[0] == 503, "its broker is missed")
        wait_until(lambda: "waiting for its broker" in get(port, "/readyz")[1], "the reason is said")
        said = get(port, "/readyz?verbose")[1]
        assert "127.0.0.1" not in said and str(server.port) not in said and "Error" not in said
        assert [get(port, path)[0] for path in ("/livez", "/startupz")] == [200, 200]
        server.restart()
        wait_until(lambda: get(port, "/readyz")[0] == 200, "it is ready again")
        with redis.Redis.from_url(server.url) as client:
            client.xadd("orders", {"body": "1"})
        wait_until((tmp_path / "begun").exists, "a handler blocks its event loop")
        wait_until(lambda: "process 0 waiting\n" in get(port, "/readyz")[1], "that is noticed")
        assert [get(port, path)[0] for path in ("/livez", "/startupz", "/livez/loop")] == [200, 200, 200]
        (tmp_path / "gate").touch()
        wait_until(lambda: get(port, "/readyz") == (200, "ok\n"), "it is ready again")
        assert (tmp_path / "done").exists()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert "0 restarts" in running.output()
