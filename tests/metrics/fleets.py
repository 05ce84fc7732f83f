"""Fleets made by hand, for what a monitor shows of them: everything that can be known, and everything that can be wrong."""

from __future__ import annotations

import math
import time
from typing import Any

import attrs

from pythia_core import Snapshot
from pythia_core.supervisor.scaling import Decision
from pythia_metrics.monitor import MetricsMonitor
from tests.metrics.snapshots import queue, snapshot, worker

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
"""What a stranger may write into a key, and what an error may quote."""

MESSAGE = f"<KafkaMessage orders-3:10442 key={HOSTILE.encode()!r} 2048 B>"
ERROR = f"HTTPStatusError: 503 of https://psp.example/ {HOSTILE}"
REFUSED = "opening KafkaConsumer: connection to kafka-1.example:9092 refused"


def report(slot: int) -> dict[str, Any]:
    """Return what a process says of itself: the first has a stuck message, the third a brake, the fourth no broker."""
    stuck = {"message": MESSAGE, "state": "parked", "seconds": 312.0, "why": ERROR, "text": ""}
    counters = {"received": 1000, "finished": 990, "in_flight": 14, "failures": 12, "retried": 9}
    said = {
        "name": "orders",
        "ready": slot < 3,
        "system": "kafka",
        "destination": "orders",
        "group": "order-processors",
        "counters": {**counters, "dead_lettered": 3},
        "paused": ["brake: most messages fail"] if slot == 2 else [],
        "reasons": [REFUSED] if slot == 3 else [],
        "stuck": [stuck] if slot == 0 else [],
        "parked": 4 if slot == 1 else 0,
        "partitions": 6,
        "held": 95.0 if slot == 0 else 0.0,
        "queue": {"fullest": [[f"orders-{n}", 900 - 60 * n, 12.0 - n] for n in range(12)]}
        if slot == 0
        else None,
    }
    return {
        "workers": [said],
        "counters": said["counters"],
        "rss": (81 + 7 * slot) << 20,
        "waiting_for": "broker" if slot == 3 else "",
    }


def decisions(wall: float) -> list[Decision]:
    """Return a minute's decisions: one process becomes four."""
    observed = {
        "queues": [
            {
                "destination": "orders",
                "backlog": 512,
                "oldest_age_s": None,
                "arrival_rate": 20.0,
                "ack_rate": None,
            }
        ],
        "busy": 0.7,
        "paused": [],
    }
    return [
        Decision(
            wall=wall - 60 + 5 * number,
            before=1 if number <= 6 else 4,
            after=4 if number >= 6 else 1,
            raw=3.4,
            reason="drain",
            confidence="ok" if number else "unknown",
            inputs={"backlog": 512.0, "lag_threshold": 17.5},
            observed=observed,
        )
        for number in range(13)
    ]


def fleet(wall: float, *, policy: str | None = "drain", ready: int = 3, of: int = 4) -> dict[str, Any]:
    """Return what a supervisor shows: some processes ready, the last of them waiting."""
    wave = math.sin(wall / 60)
    orders = {
        "backlog": int(4000 + 2500 * wave),
        "in_flight": 57,
        "oldest_age_s": 12.4 + 8 * wave,
        "arrival_rate": 92 + 30 * wave,
        "ack_rate": 95 - 20 * wave,
        "partitions": 24,
        "partitions_with_lag": 17,
        "max_partition_lag": 900,
    }
    return {
        "supervised": True,
        "title": "/srv/shop/order_worker.py",
        "target": of,
        "stopping": False,
        "restarts": 2,
        "uptime": 754.0,
        "children": [
            {
                "number": slot + 1,
                "slot": slot,
                "state": "ready" if slot < ready else "waiting",
                "loaded": True,
                "ready": slot < ready,
                "reasons": [],
            }
            for slot in range(of)
        ],
        "snapshot": _snapshot(wall, orders, ready, of),
        "policy": policy,
        "policy_failures": 0,
        "decisions": decisions(wall) if policy else [],
    }


def _snapshot(wall: float, orders: dict[str, Any], ready: int, of: int) -> Snapshot:
    seen = [
        worker(slot, busy=0.35 + 0.2 * slot, rate=31.2 + slot, service_s=0.083, cpu=0.2, age_s=754.0)
        for slot in range(of)
    ]
    unknown = {"backlog": None, "oldest_age_s": None, "arrival_rate": None, "ack_rate": None}
    kafka = attrs.evolve(queue(**orders), system="kafka", destination="orders", group="order-processors")
    return snapshot(
        wall,
        of,
        wall=wall,
        workers=seen,
        queues=(kafka, queue(**unknown)),
        ready=ready,
        max=8,
        true_rate=33.1,
    )


def watched(*, policy: str | None = "drain") -> MetricsMonitor:
    """Return a monitor that listens and has been shown such a fleet for ten minutes."""
    monitor = MetricsMonitor()
    monitor.open("127.0.0.1", 0)
    for slot in range(4):
        monitor.take(slot + 1, slot, report(slot))
    now = time.time()
    for seconds in range(-600, 1, 2):
        monitor.show(fleet(now + seconds, policy=policy))
    return monitor
