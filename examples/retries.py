"""Retries and dead letters on the broker in memory: nothing to install, two workers in one process.

Run it with `pythia run examples/retries.py`.
"""

from typing import Any

from pythia import Message, Worker
from pythia.brokers.memory import MemoryConsumer, MemoryProducer
from pythia.config import RetryPolicy, WorkerConfig

Payment = dict[str, Any]


class Payments(Worker[Payment]):
    source = MemoryConsumer("payments")
    inbox = MemoryProducer("payments")
    config = WorkerConfig(retry=RetryPolicy(attempts=3, base=0.05, factor=2, cap=1))

    async def startup(self) -> None:
        for number in range(1, 6):
            await self.inbox.send({"number": number}, key=f"customer-{number % 2}")

    async def process(self, message: Message[Payment]) -> None:
        number = message.body["number"]
        if number == 3:
            raise ValueError("the card is refused")  # every time: a dead letter after the third attempt
        if number == 4 and message.attempt == 1:
            raise ConnectionError("the bank does not answer")  # tried again, after a random delay that grows
        print(f"payment {number} done at attempt {message.attempt}", flush=True)


class DeadLetters(Worker[Payment]):
    source = MemoryConsumer("payments.dlq")
    config = WorkerConfig(dead_letter=None)  # there is no place beyond this one

    async def process(self, message: Message[Payment]) -> None:
        number = message.body["number"]
        why, attempts = (str(message.headers[f"pythia-{name}"]) for name in ("error-message", "attempts"))
        print(f"payment {number} is dead: {why}, {attempts} attempts", flush=True)
