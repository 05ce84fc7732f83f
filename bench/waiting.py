"""Handlers that wait: a thousand at once, 10 ms each, which at best are 100,000 messages a second."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from bench.engine import Premade, premade
from bench.probe import Figure, Probe, Subject
from bench.run import Run
from pythia_core import Message
from pythia_core.collector import tuned
from pythia_core.engine.engine import Engine
from pythia_core.settings import Settings

TASKS = 1000
SECONDS = 0.01
COLLECTOR = 20_000  # Pythia's default of gc_threshold


async def wait(message: Message[bytes]) -> None:
    """Wait for something that takes 10 ms."""
    await anyio.sleep(SECONDS)


def _clock(run: Run) -> Callable[[], None]:
    """Return what ends the measurement: it notes which share of the ideal rate was reached."""
    began, cpu = time.perf_counter(), time.process_time()

    def over() -> None:
        seconds = time.perf_counter() - began
        run.figures["share"] = run.messages * SECONDS / TASKS / seconds
        run.figures["cpu"] = (time.process_time() - cpu) / run.messages * 1e6

    return over


async def bare(run: Run) -> None:
    """Let a thousand tasks take one message after the other off a list."""
    messages = iter(premade(run.messages))

    async def work() -> None:
        for message in messages:
            await wait(message)

    with tuned(COLLECTOR):
        over = _clock(run)
        async with anyio.create_task_group() as group:
            for _ in range(TASKS):
                group.start_soon(work)
        over()


async def pythia(run: Run) -> None:
    """Run an engine with a thousand concurrent tasks, until all is settled."""
    messages = premade(run.messages)

    def all_settled() -> None:
        over()
        engine.stop()

    engine = Engine(Premade(messages, all_settled), wait, Settings(order="none", max_concurrent_tasks=TASKS))
    with tuned(COLLECTOR):
        over = _clock(run)
        await engine.run()


def _figures(goal: float | None = None) -> list[Figure]:
    return [Figure("share", "of the ideal", least=goal), Figure("cpu", "us each")]


BENCHES = [
    Probe(
        name="waiting",
        title="a handler that sleeps for 10 ms, 1,000 concurrent tasks, no broker: which share of 100,000 messages a second",
        messages=200_000,
        few=2000,
        subjects=[
            Subject("1,000 asyncio tasks over a list", "bench.waiting:bare", _figures()),
            Subject("Pythia, max_concurrent_tasks=1000", "bench.waiting:pythia", _figures(0.9)),
        ],
        packages=["pythia-core", "anyio"],
    )
]
