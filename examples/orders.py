"""Orders on a Redis stream: the three ways in which a handler can decide about a message.

Run it with `pythia run examples/orders.py -n 4`, and send it orders with
`pythia send redis stream=orders < orders.jsonl`.
"""

from typing import Any

from pythia import Message, Reject, Retry, Skip, Worker
from pythia.brokers.redis import RedisStreamsConsumer

Order = dict[str, Any]


class OrderProcessor(Worker[Order]):
    # REDIS_URL says where. The group is CONSUMER_GROUP's, or else this class's name: order-processor.
    source = RedisStreamsConsumer(stream="orders")

    async def process(self, message: Message[Order]) -> None:
        order = message.body
        if order["amount"] <= 0:
            raise Reject(f"an amount of {order['amount']}")  # a dead letter at once, with this reason
        if order.get("test"):
            raise Skip("a test order")  # settled, no work done
        if order.get("not_before_attempt", 0) > message.attempt:
            raise Retry(delay=0.1, reason="the warehouse is asleep")  # again later; others go on meanwhile
        print(f"order {order['id']} done at attempt {message.attempt}", flush=True)


if __name__ == "__main__":
    OrderProcessor().run()
