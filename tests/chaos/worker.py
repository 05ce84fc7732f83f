"""The worker under test, as a user writes one. It does what a message's script says, and writes down what it did."""

import os
import signal
from pathlib import Path
from random import Random

import anyio

from pythia_core import Limits, Message, RetryPolicy, Worker, WorkerConfig
from tests.chaos.broker import find_broker
from tests.chaos.checker import Rules
from tests.chaos.events import Log
from tests.chaos.messages import Message as Sent

RULES = Rules()  # the defaults are the promise
WORK = 0.01  # seconds, about
SLOW = 4.0  # seconds, longer than any lease

log = Log(Path(os.environ["CHAOS_HISTORY"]), "worker")
random = Random()


class Chaos(Worker[bytes]):
    """Handles what is sent."""

    source = find_broker(os.environ["CHAOS_BROKER"]).source()
    config = WorkerConfig(
        batch_timeout=0.2,
        max_concurrent_tasks=RULES.concurrency,
        limits=Limits(messages=RULES.unsettled),
        retry=RetryPolicy(attempts=RULES.attempts, base=0.05, cap=0.2),
        drain_timeout=10,
    )

    async def startup(self) -> None:
        """Say that there is one more."""
        log.write("up")

    async def process(self, message: Message[bytes]) -> None:
        """Do what the script says."""
        sent = Sent.read(message.raw)
        log.write("start", sent.id, attempt=message.attempt, deliveries=message.deliveries)
        try:
            await perform(sent.script, message.attempt)
        except BaseException:
            log.write("fail", sent.id)
            raise
        log.write("effect", sent.id, sum=sent.sum)


async def perform(script: str, attempt: int) -> None:
    """Take some time, and fail where that is the script."""
    await anyio.sleep(SLOW if script == "slow" else random.expovariate(1 / WORK))
    if script == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    if script == "poison" or (script == "flaky" and attempt == 1):
        raise RuntimeError(script)
