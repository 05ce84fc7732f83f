"""The guide's metrics are at Pythia's endpoint, as the guide's own code counts them."""

import signal
from pathlib import Path

from tests.guide.snippets import FOLDER
from tests.metrics.running import get, metrics, total, wait_for
from tests.servers.server import free_port
from tests.supervisor.running import run

SERVED = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
from metrics_collection import ScalingMetricsWorker
from pythia.brokers.memory import MemoryBroker, MemoryConsumer

BROKER = MemoryBroker()


class Served(ScalingMetricsWorker):
    source = MemoryConsumer("orders", broker=BROKER)

    async def startup(self):
        for number in range(5):
            BROKER.publish("orders", {{"left": number + 3}})
"""


def test_the_guides_metrics_stand_beside_pythias_own(tmp_path: Path) -> None:
    """Two processes: sums of the user's counter and histogram, his gauge of each, and what Pythia counts itself."""
    port = free_port()
    with run(tmp_path, "-n", "2", "--listen", str(port), text=SERVED) as running:
        wait_for(port, "messages_processed_total", lambda value: value == 10)
        wait_for(port, "message_processing_seconds_count", lambda value: value == 10)
        wait_for(port, "messaging_client_consumed_messages_total", lambda value: value == 10)
        sizes = metrics(port)["queue_size"]
        assert {dict(labels)["process"] for labels in sizes} == {"0", "1"}
        assert all(3 <= value <= 7 for value in sizes.values())
        assert "Total messages processed" in get(port, "/metrics")[1]
        assert total(port, "pythia_messages_total", outcome="done") == 10
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
