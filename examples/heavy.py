"""Work that computes, in processes: each has a processor of its own, and a crash in one fails one message.

Run it with `pythia run examples/heavy.py`.
"""

import os

from pythia import Message, Worker
from pythia.brokers.memory import MemoryConsumer, MemoryProducer
from pythia.config import RetryPolicy, WorkerConfig


def count_primes(below: int) -> int:
    """Compute for a while; of a negative number, die as a bug in native code does."""
    if below < 0:
        os.abort()
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))


class Primes(Worker[int]):
    source = MemoryConsumer("numbers")
    inbox = MemoryProducer("numbers")
    config = WorkerConfig(
        handler_timeout=30, retry=RetryPolicy(attempts=2, base=0.1)
    )  # past it, the process is killed

    async def startup(self) -> None:
        for number in (10_000, -1, 20_000):
            await self.inbox.send(number)

    async def process(self, message: Message[int]) -> None:
        primes = await self.offload(count_primes, message.body, to="process")
        print(f"{primes} primes below {message.body}", flush=True)
