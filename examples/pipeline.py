"""A stage of a pipeline on Kafka: what is valid goes on to the next topic, in the order of each key.

Run it with `pythia run examples/pipeline.py -n 4`, and send it messages with
`pythia send kafka topic=raw-data --key-field sensor < readings.jsonl`.
"""

from typing import Any

from pythia import Message, Output, Reject, Worker
from pythia.brokers.kafka import KafkaConsumer, KafkaProducer

Reading = dict[str, Any]


class Validation(Worker[Reading]):
    source = KafkaConsumer(topic="raw-data", consumer_group="validation")
    sink = KafkaProducer(topic="validated-data")

    async def process(self, message: Message[Reading]) -> Output:
        reading = message.body
        if not -90 <= reading["celsius"] <= 60:
            raise Reject(f"{reading['celsius']} degrees")
        return Output(
            self.sink, {**reading, "fahrenheit": reading["celsius"] * 9 / 5 + 32}, key=reading["sensor"]
        )


if __name__ == "__main__":
    Validation().run()
