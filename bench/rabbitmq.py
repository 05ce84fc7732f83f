"""RabbitMQ: Pythia beside aiormq with one acknowledgement for many, aio-pika with one for each, and FastStream.

What is acknowledged is gone, so each turn fills a queue of its own before its clock starts. The queue is a classic one that
survives a restart; everybody gets the same prefetch.
"""

from __future__ import annotations

import asyncio
import atexit
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import aiormq
import attrs
import orjson

from bench.harness import Bench, Contender, Goal
from bench.redis import BODY, COLLECTOR, handle, make_body
from bench.run import Run
from bench.watching import Watched
from pythia_core import Message, Output, Settlement, Start
from pythia_core.collector import tuned
from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings
from pythia_rabbitmq import RabbitMQAdmin, RabbitMQConsumer, RabbitMQProducer
from tests.servers.rabbitmq import RabbitServer

KEYS = 997
PREFETCH = 1000
SMALL_PREFETCH = 10  # as the README's example has it
CLASSIC = {"x-queue-type": "classic"}


@contextmanager
def started_server(messages: int) -> Iterator[Mapping[str, str]]:
    """Say where the server is, which all benches here share: it takes 6 s to start."""
    yield {"url": server().url}


@cache
def server() -> RabbitServer:
    """Start one that ends with this process."""
    started = RabbitServer()
    atexit.register(started.close)
    started.start()
    return started


@asynccontextmanager
async def filled_queue(run: Run) -> AsyncIterator[str]:
    """Make a queue that holds the messages; at the end check that none came back, and remove it."""
    url, queue = run.place["url"], f"bench-{secrets.token_hex(4)}"
    async with RabbitMQAdmin(url=url) as admin:
        async with RabbitMQProducer(routing_key=queue, exchange="", url=url) as sink:
            await admin.declare_queue(queue, arguments=CLASSIC)
            for start in range(0, run.messages, KEYS):
                numbers = range(start, min(start + KEYS, run.messages))
                result = await sink.write(
                    [Output(None, make_body(number), key=f"k{number % KEYS}") for number in numbers]
                )
                if result.errors:
                    raise RuntimeError(f"not everything was published: {result.errors}")
        yield queue
        if left := await admin.get_queue_depth(queue):
            raise RuntimeError(f"not everything was acknowledged: {left} messages are left")
        await admin.delete_queue(queue)


# -- the bare clients --------------------------------------------------------------------------------------------


async def bare(run: Run) -> None:
    """Decode and handle each, acknowledge 500 at once: half the prefetch, as Pythia does."""
    await _bare(run, PREFETCH)


async def bare_small(run: Run) -> None:
    """Do the same with a prefetch of 10, so 5 at once."""
    await _bare(run, SMALL_PREFETCH)


async def _bare(run: Run, prefetch: int) -> None:
    at_once = prefetch // 2
    async with filled_queue(run) as queue:
        connection = await aiormq.connect(run.place["url"])
        channel = await connection.channel()
        done, rest = asyncio.Event(), run.messages

        async def take(message: Any) -> None:
            nonlocal rest
            await handle(orjson.loads(message.body))
            rest -= 1
            if message.delivery_tag % at_once == 0 or rest == 0:
                await channel.basic_ack(message.delivery_tag, multiple=True)
            if rest == 0:
                run.stop()
                done.set()

        await channel.basic_qos(prefetch_count=prefetch)
        run.start()
        await channel.basic_consume(queue, take)
        await done.wait()
        await connection.close()


async def aio_pika(run: Run) -> None:
    """Decode, handle and acknowledge each."""
    package = import_module("aio_pika")
    async with filled_queue(run) as queue:
        connection = await package.connect(run.place["url"])
        channel = await connection.channel()
        done, rest = asyncio.Event(), run.messages

        async def take(message: Any) -> None:
            nonlocal rest
            await handle(orjson.loads(message.body))
            await message.ack()
            rest -= 1
            if rest == 0:
                run.stop()
                done.set()

        await channel.set_qos(prefetch_count=PREFETCH)
        there = await channel.get_queue(queue)
        run.start()
        await there.consume(take)
        await done.wait()
        await connection.close()


# -- Pythia ------------------------------------------------------------------------------------------------------


async def process(message: Message[Any]) -> None:
    """Look at the decoded body."""
    message.body  # noqa: B018 - looking at it is what decodes it


async def _work(run: Run, settings: Settings, prefetch: int) -> None:
    through = 0

    def settled(settlements: Sequence[Settlement]) -> None:
        nonlocal through
        for settlement in settlements:
            through = max(through, settlement.through or 0)
        if through == run.messages:
            run.stop()
            engine.stop()

    async with filled_queue(run) as queue:
        source = RabbitMQConsumer(queue, url=run.place["url"], prefetch_count=prefetch, declare=False)
        engine = Engine(Watched(source.resolve(Start(worker="bench")), settled), process, settings)
        run.start()
        with tuned(COLLECTOR):
            await engine.run()


async def key_order(run: Run) -> None:
    """Run an engine with its default settings, as in a process of ``pythia run``."""
    await _work(run, Settings(), PREFETCH)


async def no_order(run: Run) -> None:
    """Do the same without order."""
    await _work(run, attrs.evolve(Settings(), order="none"), PREFETCH)


async def small_prefetch(run: Run) -> None:
    """Do the same with a prefetch of 10."""
    await _work(run, Settings(), SMALL_PREFETCH)


# -- FastStream --------------------------------------------------------------------------------------------------


async def faststream(run: Run) -> None:
    """Run FastStream, an acknowledgement each: without a logger and without casting types."""
    package = import_module("faststream.rabbit")
    done, rest = asyncio.Event(), run.messages

    async def count(body: Any) -> None:
        nonlocal rest
        rest -= 1
        if rest == 0:
            done.set()

    async with filled_queue(run) as queue:
        broker = package.RabbitBroker(run.place["url"], logger=None, apply_types=False)
        place = package.RabbitQueue(queue, durable=True, declare=False)
        channel = package.Channel(prefetch_count=PREFETCH)
        policy = import_module("faststream").AckPolicy.ACK
        broker.subscriber(place, channel=channel, ack_policy=policy)(count)
        run.start()
        await broker.start()
        await done.wait()
        run.stop()
        await broker.stop()


TITLE = f"RabbitMQ, prefetch {PREFETCH}, {KEYS} keys, JSON bodies of {BODY} bytes decoded, at least once"
PYTHIA = Contender("Pythia, order by key", "bench.rabbitmq:key_order", Goal("speed", 0.95))
PACKAGES = ["pythia-core", "pythia-rabbitmq", "aiormq", "orjson"]

BENCHES = [
    Bench(
        name="rabbitmq",
        title=TITLE,
        messages=50_000,
        few=1200,
        reference=Contender("aiormq: one ack for 500", "bench.rabbitmq:bare"),
        contenders=[
            PYTHIA,
            Contender("Pythia, no order", "bench.rabbitmq:no_order", Goal("speed", 0.95)),
        ],
        place=started_server,
        packages=PACKAGES,
        programs=["rabbitmqctl"],
    ),
    Bench(
        name="rabbitmq-prefetch-10",
        title=TITLE.replace(f"prefetch {PREFETCH}", f"prefetch {SMALL_PREFETCH}"),
        messages=20_000,
        few=1200,
        reference=Contender("aiormq: one ack for 5", "bench.rabbitmq:bare_small"),
        contenders=[
            Contender("Pythia, order by key", "bench.rabbitmq:small_prefetch", Goal("speed", 0.95)),
        ],
        place=started_server,
        packages=PACKAGES,
        programs=["rabbitmqctl"],
    ),
    Bench(
        name="rabbitmq-aio-pika",
        title=TITLE,
        messages=50_000,
        few=1200,
        reference=Contender("aio-pika, ack each", "bench.rabbitmq:aio_pika", share=0.5),
        contenders=[attrs.evolve(PYTHIA, goal=Goal("speed", 1.7))],
        place=started_server,
        packages=[*PACKAGES, "aio-pika"],
        needs="aio_pika",
        programs=["rabbitmqctl"],
    ),
    Bench(
        name="rabbitmq-faststream",
        title=TITLE,
        messages=50_000,
        few=1200,
        reference=Contender("FastStream, ack each", "bench.rabbitmq:faststream", share=0.25),
        contenders=[attrs.evolve(PYTHIA, goal=Goal("speed", 4))],
        place=started_server,
        packages=[*PACKAGES, "faststream"],
        needs="faststream",
        programs=["rabbitmqctl"],
    ),
]
