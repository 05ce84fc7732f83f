"""Pythia: message workers that lose nothing.

    from pythia import Worker
    from pythia.brokers.redis import RedisStreamsConsumer

    class OrderProcessor(Worker):
        source = RedisStreamsConsumer(stream="orders")

        async def process(self, message):
            print(message.body)

    OrderProcessor().run()

Settings are in pythia.config, brokers in pythia.brokers.
"""

from pythia_core import (
    BatchError,
    BrokenProcess,
    DecodeError,
    Message,
    Output,
    Reject,
    Retry,
    Skip,
    Worker,
)

__all__ = [
    "BatchError",
    "BrokenProcess",
    "DecodeError",
    "Message",
    "Output",
    "Reject",
    "Retry",
    "Skip",
    "Worker",
]
