"""Dead letters on a real Redis: listed without a trace, and replayed through interruptions, outages and kills."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import redis

from pythia_core import Start
from pythia_core.dead_letters import Place, Replay
from pythia_redis import RedisStreamsConsumer
from tests.redis.driving import pending
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.waiting import eventually, wait_until

COMMAND = [sys.executable, "-c", "from pythia_core.command import main; main(prog_name='pythia')"]
GROUP = "dead-letters"


def bury(client: redis.Redis, count: int) -> None:
    """Write dead letters with the bodies 0, 1, 2, ..."""
    with client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.xadd(
                "events:dlq",
                {
                    "body": str(number),
                    "key": f"k{number % 3}",
                    "h:mine": "1",
                    "h:pythia-source": "events",
                    "h:pythia-error": "builtins.ValueError",
                },
            )
        pipeline.execute()


def sent(client: redis.Redis) -> list[int]:
    """Return the bodies that are in the stream again."""
    entries: Any = client.xrange("events")
    return [int(fields["body"]) for _, fields in entries]


def left(client: redis.Redis) -> list[int]:
    """Return the bodies that are still dead letters."""
    entries: Any = client.xrange("events:dlq")
    return [int(fields["body"]) for _, fields in entries]


def call(server: RedisServer, *arguments: str) -> list[str]:
    """Return a command line; its environment is `environ`."""
    return [*COMMAND, "dead-letters", *arguments, "redis", "stream=events"]


def environ(url: str) -> dict[str, str]:
    """Return an environment that names the server."""
    return {**os.environ, "REDIS_URL": url, "NO_COLOR": "1"}


@contextmanager
def replaying(server: RedisServer, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a replay in a process of its own."""
    process = subprocess.Popen(
        [*call(server, "replay"), "--json", *options],
        env=environ(server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_list_leaves_no_trace(client: redis.Redis, redis_server: RedisServer) -> None:
    """No group, no consumer, no delivery; also after a replay left some, more than a page of them."""
    bury(client, 1200)
    for _ in range(2):
        done = subprocess.run(
            [*call(redis_server, "list"), "--json"],
            env=environ(redis_server.url),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert len(done.stdout.splitlines()) == 1200
        assert json.loads(done.stdout.splitlines()[7])["key"] == "k1"
    assert client.xinfo_groups("events:dlq") == []


def test_what_was_replayed_is_no_longer_listed(client: redis.Redis, redis_server: RedisServer) -> None:
    """Even where another group keeps its entry in the stream, and though entries that stay lie around it."""
    client.xgroup_create("events:dlq", "archive", "0", mkstream=True)
    bury(client, 6)
    with replaying(redis_server, "--key", "k1") as process:
        assert process.wait(30) == 0
    done = subprocess.run(
        [*call(redis_server, "list"), "--json"],
        env=environ(redis_server.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sent(client) == [1, 4]
    assert [json.loads(line)["key"] for line in done.stdout.splitlines()] == ["k0", "k2", "k0", "k2"]


def test_a_replay_gives_messages_back_as_they_were(client: redis.Redis, redis_server: RedisServer) -> None:
    """In their order, with their own headers, and the place is empty then."""
    bury(client, 1500)
    with replaying(redis_server) as process:
        assert process.wait(60) == 0
    assert sent(client) == list(range(1500))
    assert (client.xlen("events:dlq"), pending(client, stream="events:dlq", group=GROUP)) == (0, {})
    ((_, fields),) = client.xrange("events", count=1)  # type: ignore[misc]
    assert fields == {"body": "0", "key": "k0", "h:mine": "1"}


def test_interrupted_it_repeats_none_and_loses_none(client: redis.Redis, redis_server: RedisServer) -> None:
    """SIGINT in the middle: what went back is removed, the rest stays, and its deliveries are not counted."""
    bury(client, 500)
    with replaying(redis_server, "--rate", "200") as process:
        wait_until(lambda: len(sent(client)) >= 20, "some were replayed")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    report = json.loads(output)
    assert (process.returncode, report["interrupted"]) == (1, True), errors
    assert sent(client) == list(range(report["replayed"]))
    assert left(client) == list(range(report["replayed"], 500))
    assert {count for _, count in pending(client, stream="events:dlq", group=GROUP).values()} <= {0}
    with replaying(redis_server) as process:
        assert process.wait(30) == 0
    assert sorted(sent(client)) == list(range(500))


def test_killed_it_loses_none(client: redis.Redis, redis_server: RedisServer) -> None:
    """What was sent in the last moment may go twice, and everything goes."""
    bury(client, 300)
    with replaying(redis_server, "--rate", "200") as process:
        wait_until(lambda: len(sent(client)) >= 20, "some were replayed")
        process.kill()
        process.wait(10)
    done = set(sent(client))
    assert done | set(left(client)) == set(range(300))
    assert len(done & set(left(client))) <= 30  # 50 ms at 200 a second, and a slow machine


def has_replayed(replay: Replay, share: int) -> bool:
    """Tell whether so many were."""
    return replay.report.replayed >= share


async def test_cut_connections_lose_none(client: redis.Redis, redis_server: RedisServer) -> None:
    """All of them, again and again; an answer that was lost may mean a repetition."""
    bury(client, 400)
    async with Proxy.before(redis_server.port) as proxy:
        source = RedisStreamsConsumer("events", url=proxy.redis_url, lease_seconds=2).resolve(
            Start(worker="w")
        )
        natural = source.dead_letters()
        assert natural is not None
        replay = Replay(Place(source, natural[1]), rate=200)
        cuts = 0
        async with anyio.create_task_group() as group:
            group.start_soon(replay.run)
            for share in (50, 150, 250):
                await eventually(partial(has_replayed, replay, share), "some were replayed")
                await proxy.cut()
                cuts += 1
    repeated = Counter(sent(client))
    assert set(repeated) == set(range(400))
    assert sum(repeated.values()) - 400 <= 2 * cuts * 5
    assert left(client) == []


def test_a_server_that_is_not_there_is_said_in_a_line(redis_server: RedisServer) -> None:
    """Not a traceback, and not a replay that waits for ever."""
    done = subprocess.run(
        call(redis_server, "list"),
        env=environ("redis://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "events:dlq cannot be reached" in done.stderr and "Traceback" not in done.stderr
