"""One trace from a producer through two stages, each a process of its own, to the dead letter, on a real Redis."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from pythia_metrics.trace_context import read
from pythia_redis import RedisStreamsProducer
from tests.metrics.collecting import collector
from tests.servers.redis import RedisServer
from tests.supervisor.running import COMMAND, environment
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

STAGES = """
from pythia import Worker
from pythia.brokers.redis import RedisStreamsConsumer, RedisStreamsProducer


class Price(Worker):
    source = RedisStreamsConsumer("orders", consumer_group="price", url="URL")
    sink = RedisStreamsProducer("priced", url="URL")

    async def process(self, message):
        return {"price": message.body["id"]}


class Bill(Worker):
    source = RedisStreamsConsumer("priced", consumer_group="bill", url="URL")

    async def process(self, message):
        raise ValueError("no such customer")
"""

CONFIG = """
[worker]
middleware = [{ kind = "tracing", sample = 0.0 }]
retry = { attempts = 1 }
"""


@contextmanager
def stage(folder: Path, name: str, url: str) -> Iterator[None]:
    """Run one stage under a supervisor of its own."""
    (folder / "stages.py").write_text(STAGES.replace("URL", url))
    (folder / "pythia.toml").write_text(CONFIG)
    with (folder / f"{name}.log").open("wb") as log:
        popen = subprocess.Popen(
            [*COMMAND, "run", f"{folder / 'stages.py'}:{name}", "--config", str(folder / "pythia.toml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
        )
    try:
        yield
        popen.terminate()
        assert popen.wait(30) == 0, (folder / f"{name}.log").read_text()
    finally:
        popen.kill()
        popen.wait(20)


def spans_of(received: list[Any]) -> dict[str, tuple[str, Any]]:
    """Return what was recorded by name, each with the service that sent it."""
    found: dict[str, tuple[str, Any]] = {}
    for path, request in list(received):
        for resource in request.resource_spans if path == "/v1/traces" else ():
            named = {label.key: label.value.string_value for label in resource.resource.attributes}
            for scope in resource.scope_spans:
                found |= {span.name: (named["service.name"], span) for span in scope.spans}
    return found


@pytest.mark.slow
async def test_a_trace_goes_from_a_producer_through_two_stages_to_the_dead_letter(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each span below the one before, sent to a collector by the process that made it, by a configuration file alone."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    client = redis.Redis(port=redis_server.port)
    with ExitStack() as stack:
        port, received = stack.enter_context(collector())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        for name in ("Price", "Bill"):
            stack.enter_context(stage(tmp_path, name, redis_server.url))
        async with RedisStreamsProducer("orders", url=redis_server.url) as producer:
            await producer.send({"id": 7}, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
            await producer.send({"id": 8}, headers={"traceparent": f"00-{TRACE[::-1]}-{SPAN}-00"})
        wait_until(lambda: client.xlen("priced:dlq") == 2, "both are dead letters", seconds=60)
        wait_until(lambda: len(spans_of(received)) >= 3, "all is recorded", seconds=60)
        found = spans_of(received)
        letters: Any = client.xrange("priced:dlq")
    (first, price), (second, bill), (third, letter) = (
        found[name] for name in ("process orders", "process priced", "create priced:dlq")
    )
    assert (first, second, third) == ("price", "bill", "bill")
    assert {span.trace_id.hex() for _, span in found.values()} == {TRACE}
    assert price.parent_span_id.hex() == SPAN
    assert bill.parent_span_id == price.span_id and letter.parent_span_id == bill.span_id
    carried = {read(fields[b"h:traceparent"]) for _, fields in letters}
    assert {(one.trace, one.span) for one in carried if one and one.sampled} == {
        (TRACE, letter.span_id.hex())
    }
    assert {one.trace for one in carried if one and not one.sampled} == {TRACE[::-1]}
