"""FastStream beside Pythia on Redis Streams: the same messages, the same handler, every message acknowledged.

Its configuration is the fastest found that acknowledges each message after its handler, as it does by default: reads of
500 (``max_records``; its default is one message a read), no logger, no type casting (``apply_types=False``), no
validation, its own JSON fields on a stream of its own so that nothing is converted, and one message after the other:
``max_workers=20`` is measured too. ``batch=True`` is another contract, one call and one XACK for up to 500 messages that
succeed or fail together; it is shown because it is the fastest that FastStream can do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import anyio
import redis

from bench.harness import Bench, Contender, Goal
from bench.redis import BARE, BATCH, GROUP, PACKAGES, TITLE, filled_server, make_body
from bench.run import Run
from tests.waiting import eventually

OWN_STREAM = "bench-faststream"
SHARE = 0.05  # of the messages: it takes a hundred times as long for each


@contextmanager
def both_filled(messages: int) -> Iterator[Mapping[str, str]]:
    """Start a server with a stream for each of the two."""
    with filled_server(messages) as place, redis.Redis.from_url(place["url"]) as client:
        for start in range(0, messages, 5000):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(start, min(start + 5000, messages)):
                    pipeline.xadd(OWN_STREAM, {"__data__": make_body(number)})
                pipeline.execute()
        yield place


async def _run(run: Run, *, batch: bool = False, **options: Any) -> None:
    faststream = import_module("faststream.redis")  # only `nox -s bench` installs it
    broker = faststream.RedisBroker(run.place["url"], logger=None, apply_types=False)
    done = anyio.Event()
    rest = run.messages

    async def handle(body: Any) -> None:
        nonlocal rest
        rest -= len(body) if batch else 1
        if rest <= 0:
            run.stop()
            done.set()

    stream = faststream.StreamSub(
        OWN_STREAM, group=GROUP, consumer="faststream", max_records=BATCH, batch=batch, last_id="0"
    )
    broker.subscriber(stream=stream, ack_policy=import_module("faststream").AckPolicy.ACK, **options)(handle)
    run.start()
    await broker.start()
    await done.wait()
    with redis.Redis.from_url(run.place["url"], decode_responses=True) as client:
        await eventually(lambda: _acknowledged(client) >= run.messages, "all are acknowledged")
        await broker.stop()
        client.xgroup_destroy(OWN_STREAM, GROUP)


def _acknowledged(client: redis.Redis) -> int:
    groups: Any = client.xinfo_groups(OWN_STREAM)
    read, pending = int(groups[0]["entries-read"]), int(groups[0]["pending"])
    return read - pending


async def one_by_one(run: Run) -> None:
    """Run one message after the other, an XACK each."""
    await _run(run)


async def twenty(run: Run) -> None:
    """Run twenty at once, an XACK each."""
    await _run(run, max_workers=20)


async def batches(run: Run) -> None:
    """Run lists of up to 500, an XACK for each list."""
    await _run(run, batch=True)


BENCHES = [
    Bench(
        name="faststream",
        title=TITLE,
        messages=100_000,
        few=1200,
        reference=Contender("FastStream, ack each", "bench.faststream:one_by_one", share=SHARE),
        contenders=[
            Contender("FastStream, ack each, max_workers=20", "bench.faststream:twenty", share=SHARE),
            Contender("FastStream, batch=True: one ack for 500", "bench.faststream:batches"),
            BARE,
            Contender("Pythia, default settings", "bench.redis:pythia", Goal("speed", 50)),
        ],
        place=both_filled,
        packages=[*PACKAGES, "faststream"],
        needs="faststream",
        programs=["redis-server"],
    )
]
