"""Retries and dead letters on the broker in memory: nothing to install, two workers in one process.

Run it with `pythia run examples/retries.py`.
"""

from pythia import Worker
from pythia.brokers.memory import MemoryConsumer, MemoryProducer
from pythia.config import RetryPolicy, WorkerConfig


class Payments(Worker):
    source = MemoryConsumer("payments")
    inbox = MemoryProducer("payments")
    config = WorkerConfig(retry=RetryPolicy(attempts=3, base=0.05, factor=2, cap=1))

    async def startup(self):
        for number in range(1, 6):
            await self.inbox.send({"number": number}, key=f"customer-{number % 2}")

    async def process(self, message):
        number = message.body["number"]
        if number == 3:
            raise ValueError("the card is refused")  # every time: a dead letter after the third attempt
        if number == 4 and message.attempt == 1:
            raise ConnectionError("the bank does not answer")  # tried again, after a random delay that grows
        print(f"payment {number} done at attempt {message.attempt}", flush=True)


class DeadLetters(Worker):
    source = MemoryConsumer("payments.dlq")

    async def process(self, message):
        headers = message.headers
        print(
            f"payment {message.body['number']} is dead: {headers['pythia-error-message']},"
            f" {headers['pythia-attempts']} attempts",
            flush=True,
        )
