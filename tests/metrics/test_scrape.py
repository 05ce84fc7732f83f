"""What a scrape costs, and that nothing of it is done unless somebody asks."""

import time
from typing import Any

from pythia_metrics.families import Family
from pythia_metrics.monitor import COLLECTOR, MetricsMonitor
from tests.metrics.running import get

PROCESSES = 8
SCRAPES = 20
SAMPLES = 100
"""A user's own metrics in each process, beside the hundred of ours."""


def report(slot: int) -> dict[str, Any]:
    """Return what a busy process says of itself."""
    users = [Family(f"users_{number}_total", "counter") for number in range(SAMPLES)]
    for family in users:
        family.add(slot, {"kind": "good"})
    worker = {
        "name": "w",
        "system": "kafka",
        "destination": "orders",
        "group": "g",
        "counters": {"received": 1_000_000 + slot},
        "durations": [1000] * 15,
        "duration_sum": 12.5,
        "paused": ["memory"],
    }
    telemetry = {COLLECTOR: {"families": [family.dump() for family in users]}}
    return {"workers": [worker], "cpu": [1.0, 2.0], "rss": 1, "threads": 1, "telemetry": telemetry}


def test_a_scrape_of_eight_processes_costs_less_than_50_ms_of_processor_time() -> None:
    """That of the server and of the client that asks, of HTTP and of the text, by the processor's clock."""
    monitor = MetricsMonitor()
    monitor.open("127.0.0.1", 0)
    assert monitor.address is not None
    for slot in range(PROCESSES):
        monitor.take(slot + 1, slot, report(slot))
    port = monitor.address[1]
    get(port, "/metrics")  # has the libraries imported
    began = time.process_time()
    texts = [get(port, "/metrics")[1] for _ in range(SCRAPES)]
    cost = (time.process_time() - began) / SCRAPES
    monitor.close()
    assert all(text.count("# TYPE users_") == SAMPLES for text in texts)
    assert cost < 0.05, f"{cost * 1000:.1f} ms for {len(texts[0]):,} bytes"
