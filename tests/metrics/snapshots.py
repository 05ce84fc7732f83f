"""Snapshots for tests: by hand, and whatever hypothesis makes of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pythia_core import QueueObservation, Snapshot, WorkerObservation


def worker(number: int = 0, **more: Any) -> WorkerObservation:
    """Return a process that is ready and half busy."""
    return WorkerObservation(
        **{"id": str(number), "state": "ready", "busy": 0.5, "slots": 20, "rate": 5.0, **more}
    )


def queue(**more: Any) -> QueueObservation:
    """Return a queue of which everything is known."""
    known = {"backlog": 0, "oldest_age_s": 0.0, "arrival_rate": 10.0, "ack_rate": 10.0}
    return QueueObservation(system="test", destination="jobs", **{**known, **more})


def snapshot(now: float = 1000.0, desired: int = 2, **more: Any) -> Snapshot:
    """Return a snapshot of a fleet that is well."""
    workers = more.pop("workers", None)
    fleet = tuple(worker(n) for n in range(desired)) if workers is None else tuple(workers)
    said = {
        "now": now,
        "wall": now,
        "worker": "w",
        "window_s": 15.0,
        "seq": 1,
        "queues": (queue(),),
        "workers": fleet,
        "replicas": desired,
        "ready": len(fleet),
        "desired": desired,
        "min": 1,
        "max": 100,
        "true_rate": 10.0,
        **more,
    }
    return Snapshot(**said)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values, or None."""
    return st.none() | values


counts = st.integers(0, 100_000)
numbers = st.floats(0, 10_000)

queues = st.builds(
    QueueObservation,
    system=st.just("test"),
    destination=st.sampled_from(["a", "b"]),
    backlog=maybe(counts),
    in_flight=maybe(counts),
    oldest_age_s=maybe(numbers),
    arrival_rate=maybe(numbers),
    ack_rate=maybe(numbers),
    partitions=maybe(st.integers(1, 50)),
    partitions_with_lag=maybe(st.integers(0, 50)),
    max_partition_lag=maybe(counts),
    at_least=st.booleans(),
)
workers = st.builds(
    WorkerObservation,
    id=st.just("0"),
    state=st.sampled_from(["starting", "ready", "draining", "dead"]),
    busy=st.floats(0, 1),
    slots=st.integers(1, 100),
    rate=numbers,
    cpu=st.floats(0, 4),
    rss_bytes=st.integers(0, 1 << 34),
    throttled=st.booleans(),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Make anything that an observer could say."""
    least, most = sorted((draw(st.integers(1, 40)), draw(st.integers(1, 40))))
    fleet = tuple(draw(st.lists(workers, max_size=4)))
    return Snapshot(
        now=draw(st.floats(0, 1e6)),
        wall=draw(st.floats(0, 2e9)),
        worker="w",
        window_s=15.0,
        seq=1,
        queues=tuple(draw(st.lists(queues, max_size=3))),
        workers=fleet,
        replicas=len(fleet),
        ready=sum(one.state == "ready" for one in fleet),
        desired=draw(st.integers(least, most)),
        min=least,
        max=most,
        start_s=draw(st.floats(0, 60)),
        rebalance_s=draw(maybe(st.floats(0, 60))),
        true_rate=draw(maybe(st.floats(0, 1e4))),
    )
