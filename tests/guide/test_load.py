"""The guide's load test, with its ten processes and a thousand messages a second, for as long as a test run has time.

GUIDE_SECONDS=300 in the environment gives it the guide's own duration.
"""

import os
from typing import Any

import pytest

from pythia.testing import LoadResults, LoadTester
from tests.guide import redis_orders
from tests.guide.conftest import MakeTopics
from tests.guide.running import Notes, load
from tests.servers.redis import RedisServer

SECONDS = float(os.environ.get("GUIDE_SECONDS", "3"))


class Kept(LoadTester):
    """Has another duration than it is told, and keeps its results."""

    kept: list[LoadResults] = []  # noqa: RUF012 - of the whole run, on purpose

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "duration_seconds": SECONDS})

    async def run(self) -> LoadResults:
        self.kept.append(results := await super().run())
        return results


async def run_snippet(monkeypatch: pytest.MonkeyPatch, **names: Any) -> LoadResults:
    """Run the guide's test with some of its names replaced."""
    monkeypatch.setattr("pythia.testing.LoadTester", Kept)
    snippet = load("load.py")
    for name, value in names.items():
        setattr(snippet, name, value)
    await snippet.test_horizontal_scaling()
    return Kept.kept.pop()


@pytest.mark.timeout(120 + SECONDS)
async def test_horizontal_scaling_as_the_guide_tests_it_on_kafka(
    make_topics: MakeTopics, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its three asserts hold, every process has a part, and nothing was lost, repeated or out of order."""
    await make_topics("orders", partitions=10)
    results = await run_snippet(monkeypatch)
    assert results.sent == SECONDS * 1000
    assert results.proven, results
    assert results.order_violations == 0
    assert len(results.by_worker) == 10 and all(results.by_worker)
    assert len(notes("order")) == results.sent


@pytest.mark.timeout(120 + SECONDS)
async def test_horizontal_scaling_as_the_guide_tests_it_on_redis(
    redis: RedisServer, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds on a stream of Redis, which promises no order."""
    results = await run_snippet(monkeypatch, OrderProcessor=redis_orders.OrderProcessor)
    assert results.sent == SECONDS * 1000
    assert results.proven, results
    assert len(results.by_worker) == 10 and all(results.by_worker)
