"""A middleware: something around every call of process(), composed once at start.

Run it with `pythia run examples/middleware.py`.
"""

import time
from typing import Any

import anyio

from pythia import Message, Worker
from pythia.brokers.memory import MemoryConsumer, MemoryProducer
from pythia.config import WorkerConfig
from pythia_core import Handler, Middleware, Phase

Chore = dict[str, Any]


class ReportSlow(Middleware):
    phase = Phase.TRACE  # outermost: it also sees what other middleware costs

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def wrap(self, handler: Handler) -> Handler:
        async def timed(message: Message[Chore]) -> Any:
            began = time.perf_counter()
            try:
                return await handler(message)  # what it raises must pass: Retry, Reject and Skip decide
            finally:
                taken = time.perf_counter() - began
                if taken > self.seconds:
                    print(f"{message.body['name']} took {taken:.1f} s", flush=True)

        return timed


class Chores(Worker[Chore]):
    source = MemoryConsumer("chores")
    inbox = MemoryProducer("chores")
    config = WorkerConfig(middleware=[ReportSlow(seconds=0.2)])

    async def startup(self) -> None:
        await self.inbox.send({"name": "quick chore", "seconds": 0.01})
        await self.inbox.send({"name": "slow chore", "seconds": 0.3})

    async def process(self, message: Message[Chore]) -> None:
        await anyio.sleep(message.body["seconds"])
        print(f"{message.body['name']} done", flush=True)
