"""A RabbitMQ queue shared by as many workers as you start: the broker deals its messages out to whoever has room.

Run it with `pythia run examples/tasks.py -n 3`, and send it tasks with
`pythia send rabbitmq queue=tasks < tasks.jsonl`.
"""

from typing import Any

import anyio

from pythia import Message, Worker
from pythia.brokers.rabbitmq import RabbitMQConsumer, RabbitMQProducer

Task = dict[str, Any]


class LoadBalancedWorker(Worker[Task]):
    source = RabbitMQConsumer(
        queue="tasks",
        prefetch_count=10,  # out to this worker at the most, and given back if it stops
        auto_ack=False,  # a task is acknowledged when it is done, and not before
    )
    sink = RabbitMQProducer(queue="results", declare={"x-queue-type": "quorum"})

    async def process(self, message: Message[Task]) -> Task:
        await anyio.sleep(message.body.get("seconds", 0.0))
        return {"task": message.body["id"], "done": True}


if __name__ == "__main__":
    LoadBalancedWorker().run()
