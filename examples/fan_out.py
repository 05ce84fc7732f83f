"""Fan-out: one event becomes several messages, and is acknowledged only when all of them are confirmed.

Run it with `pythia run examples/fan_out.py`, and send it events with
`pythia send redis stream=events < events.jsonl`.
"""

from typing import Any

from pythia import Message, Output, Worker
from pythia.brokers.redis import RedisStreamsConsumer, RedisStreamsProducer

Event = dict[str, Any]


class FanOut(Worker[Event]):
    source = RedisStreamsConsumer(stream="events")
    shipping = RedisStreamsProducer("shipping")  # a sink that is an attribute is opened and closed for you
    billing = RedisStreamsProducer("billing")

    async def process(self, message: Message[Event]) -> list[Output]:
        event = message.body
        bill = Output(self.billing, {"order": event["id"], "amount": event["amount"]}, key=event["customer"])
        parcels = [
            Output(self.shipping, {"order": event["id"], "parcel": number}, key=event["customer"])
            for number in range(event["parcels"])
        ]
        return [bill, *parcels]


if __name__ == "__main__":
    FanOut().run()
