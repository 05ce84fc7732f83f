"""Latency on Redis at a given rate: from the moment a message should have been sent to the end of its handler.

The rate is kept by a process of its own that waits for nobody (an open loop), and the clock starts at the *intended* time
of each message: what a stall makes late counts as late, also if the sender itself is. The sender's own lateness is shown.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import redis
from redis import asyncio as aioredis

from bench.probe import Figure, Probe, Subject
from bench.publish import empty_server
from bench.redis import BATCH, COLLECTOR, GROUP, PACKAGES, STREAM, make_body
from bench.run import Run
from bench.turn import ROOT, shim
from pythia_core import Message, Start
from pythia_core.collector import tuned
from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings
from pythia_redis import RedisStreamsConsumer

RATE = 1000  # messages a second
HEAD_START = 1.0  # seconds that a consumer has before the first message


def send(url: str, count: int) -> None:
    """Send ``count`` messages, each at its time, and print how late the sending was: what runs in the sender."""
    body = orjson.loads(make_body(1))
    late: list[float] = []
    with redis.Redis.from_url(url) as client:
        begin = time.monotonic() + HEAD_START
        while len(late) < count:
            now = time.monotonic()
            due = min(int((now - begin) * RATE) + 1, count) if now >= begin else 0
            if due > len(late):
                with client.pipeline(transaction=False) as pipeline:
                    for number in range(len(late), due):
                        at = begin + number / RATE
                        late.append(now - at)
                        pipeline.xadd(STREAM, {"body": orjson.dumps(body | {"at": at})})
                    pipeline.execute()
            time.sleep(max(begin + len(late) / RATE - time.monotonic(), 0.0))
    print(percentile(late, 99))


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile, by the nearest rank."""
    return sorted(values)[max(-(-len(values) * percent // 100), 1) - 1]


async def _measure(run: Run, consume: Callable[[list[float]], Awaitable[None]]) -> None:
    """Let ``consume`` work until it has written down a latency for each message; note the figures."""
    latencies: list[float] = []
    with redis.Redis.from_url(run.place["url"]) as client:
        client.delete(STREAM)
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    order = [*shim(), sys.executable, "-m", "bench.latency", run.place["url"], str(run.messages)]
    with subprocess.Popen(order, cwd=ROOT, stdout=subprocess.PIPE, text=True) as sender:
        await consume(latencies)
        told, _ = sender.communicate(timeout=10)
    run.figures.update(
        p50=percentile(latencies, 50) * 1000, p99=percentile(latencies, 99) * 1000, sender=float(told) * 1000
    )


async def bare(run: Run) -> None:
    """Read, decode and handle each, acknowledge them in one call, and so on."""

    async def consume(latencies: list[float]) -> None:
        async with aioredis.Redis.from_url(run.place["url"]) as untyped:
            client: Any = untyped
            while len(latencies) < run.messages:
                answer = await client.xreadgroup(GROUP, "bare", {STREAM: ">"}, count=BATCH, block=500)
                entries = answer[0][1] if answer else []
                for _, fields in entries:
                    latencies.append(time.monotonic() - orjson.loads(fields[b"body"])["at"])
                if entries:
                    await client.xack(STREAM, GROUP, *[position for position, _ in entries])

    await _measure(run, consume)


async def pythia(run: Run) -> None:
    """Run an engine with its default settings."""

    async def consume(latencies: list[float]) -> None:
        async def process(message: Message[Any]) -> None:
            latencies.append(time.monotonic() - message.body["at"])
            if len(latencies) == run.messages:
                engine.stop()

        source = RedisStreamsConsumer(STREAM, url=run.place["url"], consumer_group=GROUP)
        engine = Engine(source.resolve(Start(worker="bench")), process, Settings())
        with tuned(COLLECTOR):
            await engine.run()

    await _measure(run, consume)


def _figures(goal: float | None = None) -> list[Figure]:
    return [Figure("p50", "ms"), Figure("p99", "ms", most=goal), Figure("sender", "ms")]


BENCHES = [
    Probe(
        name="latency",
        title=f"Redis Streams, {RATE:,} messages a second, intended sending to end of handler; sender: its lateness, p99",
        messages=10 * RATE,
        few=200,
        subjects=[
            Subject("redis-py: XREADGROUP, one XACK", "bench.latency:bare", _figures()),
            Subject("Pythia, default settings", "bench.latency:pythia", _figures(5)),
        ],
        place=empty_server,
        packages=PACKAGES,
        programs=["redis-server"],
    )
]

if __name__ == "__main__":
    send(sys.argv[1], int(sys.argv[2]))
