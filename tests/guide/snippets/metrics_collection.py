"""Metrics Collection: Pythia's metrics and the user's own at one place."""

from pythia import Worker

from pythia.monitoring import MetricsCollector
import prometheus_client


class ScalingMetricsWorker(Worker):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.metrics = MetricsCollector()

        # Prometheus metrics
        self.messages_processed = prometheus_client.Counter(
            'messages_processed_total',
            'Total messages processed'
        )

        self.processing_time = prometheus_client.Histogram(
            'message_processing_seconds',
            'Time spent processing messages'
        )

        self.queue_size = prometheus_client.Gauge(
            'queue_size',
            'Current queue size'
        )

    async def process(self, message):
        with self.processing_time.time():
            result = await self.handle_message(message)

        self.messages_processed.inc()
        return result

    async def handle_message(self, message):
        self.queue_size.set(message.body["left"])
