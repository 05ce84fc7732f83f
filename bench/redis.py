"""Redis Streams: Pythia beside a bare loop over redis-py that gives the same guarantees, on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import redis
from redis import asyncio as aioredis

from bench.harness import Bench, Contender, Goal
from bench.run import Run
from bench.watching import Watched
from pythia_core import Message, Settlement, Start
from pythia_core.collector import tuned
from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings
from pythia_redis import RedisStreamsConsumer
from tests.servers.redis import RedisServer

STREAM, GROUP = "bench", "workers"
BODY = 512  # bytes
BATCH = 500  # Pythia's default, and the bare loop's
COLLECTOR = 20_000  # Pythia's default of gc_threshold


def make_body(number: int) -> bytes:
    """Return JSON of 512 bytes: a number, some fields, and a text that fills up."""
    fields = {
        "id": number,
        "user": f"user-{number % 1000}",
        "amount": number / 100,
        "tags": ["a", "b"],
        "text": "",
    }
    rest = BODY - len(orjson.dumps(fields))
    return orjson.dumps(fields | {"text": "x" * rest})


@contextmanager
def filled_server(messages: int) -> Iterator[Mapping[str, str]]:
    """Start a server whose stream holds the messages. Each contender reads them as a new group."""
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        for start in range(0, messages, 5000):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(start, min(start + 5000, messages)):
                    pipeline.xadd(STREAM, {"body": make_body(number)})
                pipeline.execute()
        yield {"url": server.url}


@contextmanager
def new_group(run: Run) -> Iterator[None]:
    """Make the group; at the end check that nothing of it is unread or unsettled, and remove it."""
    with redis.Redis.from_url(run.place["url"], decode_responses=True) as client:
        client.xgroup_create(STREAM, GROUP, id="0")
        yield
        groups: Any = client.xinfo_groups(STREAM)
        client.xgroup_destroy(STREAM, GROUP)
        rest = client.xlen(STREAM) - run.messages
    if groups[0]["pending"] or groups[0]["lag"] != rest:
        raise RuntimeError(f"not everything was settled: {groups[0]}")


# -- the bare client ---------------------------------------------------------------------------------------------


async def handle(body: Any) -> None:
    """Handle a decoded body."""


async def bare(run: Run) -> None:
    """Read 500, decode and handle each, acknowledge them in one call, and so on."""
    with new_group(run):
        await _bare_loop(run)


async def tuned_bare(run: Run) -> None:
    """Do the same with the collector tuned."""
    with new_group(run), tuned(COLLECTOR):
        await _bare_loop(run)


async def _bare_loop(run: Run) -> None:
    run.start()
    rest = run.messages
    async with aioredis.Redis.from_url(run.place["url"]) as untyped:
        client: Any = untyped
        while rest:
            answer = await client.xreadgroup(GROUP, "bare", {STREAM: ">"}, count=BATCH, block=500)
            entries = answer[0][1]
            for _, fields in entries:
                await handle(orjson.loads(fields[b"body"]))
            await client.xack(STREAM, GROUP, *[position for position, _ in entries])
            rest -= len(entries)
        run.stop()


# -- Pythia ------------------------------------------------------------------------------------------------------


async def process(message: Message[Any]) -> None:
    """Look at the decoded body."""
    message.body  # noqa: B018 - looking at it is what decodes it


async def _work(run: Run) -> None:
    rest = run.messages

    def settled(settlements: Sequence[Settlement]) -> None:
        nonlocal rest
        rest -= sum(len(settlement.beyond) for settlement in settlements)
        if rest <= 0:
            run.stop()
            engine.stop()

    source = RedisStreamsConsumer(STREAM, url=run.place["url"], consumer_group=GROUP)
    engine = Engine(Watched(source.resolve(Start(worker="bench")), settled), process, Settings())
    run.start()
    await engine.run()


async def pythia(run: Run) -> None:
    """Run an engine with its default settings, as in a process of ``pythia run``."""
    with new_group(run), tuned(COLLECTOR):
        await _work(run)


async def pythia_as_guest(run: Run) -> None:
    """Do the same as in a process of somebody else, whose collector is left as it is."""
    with new_group(run):
        await _work(run)


TITLE = f"Redis Streams, JSON bodies of {BODY} bytes decoded, at least once, every message settled"
BARE = Contender("redis-py: XREADGROUP 500, one XACK", "bench.redis:bare")
PACKAGES = ["pythia-core", "pythia-redis", "redis", "hiredis", "orjson"]

BENCHES = [
    Bench(
        name="redis",
        title=TITLE,
        messages=100_000,
        few=1200,
        reference=BARE,
        contenders=[
            Contender("Pythia, default settings", "bench.redis:pythia", Goal("speed", 1.0)),
            Contender("Pythia in a process not its own", "bench.redis:pythia_as_guest"),
            Contender("redis-py, collector tuned as Pythia's", "bench.redis:tuned_bare"),
        ],
        place=filled_server,
        packages=PACKAGES,
        programs=["redis-server"],
    ),
]
