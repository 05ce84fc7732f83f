"""KEDA's contract: the server beside a client that is built from our own .proto, as a stranger would build one."""

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import anyio
import attrs
import grpc
import pytest

from pythia_core import ConfigError
from pythia_metrics.desire import Desire
from pythia_metrics.keda.contract import METHODS
from pythia_metrics.keda.server import ExternalScaler, metric_name
from tests.metrics import contract
from tests.waiting import eventually

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # grpc knows only asyncio

SECONDS = 20.0


@attrs.define(eq=False)
class Published:
    """What is published, by the test."""

    name: str = "orders"
    latest: Desire | None = None
    _changed: anyio.Event = attrs.field(factory=anyio.Event)
    waiting: int = 0
    looked: int = 0

    async def shown(self, desired: int | None) -> None:
        """Publish, and wait until somebody who listens has looked at it."""
        before = self.looked
        self.publish(desired)
        await eventually(lambda: self.looked > before, "it has been looked at")

    def publish(self, desired: int | None) -> None:
        """Publish a number, or that none is known."""
        self.latest = Desire(
            worker=self.name,
            desired=desired,
            active=None if desired is None else desired > 0,
            reason="drain",
            confidence="unknown" if desired is None else "ok",
            observed_at="",
        )
        self._changed.set()
        self._changed = anyio.Event()

    async def changed(self) -> None:
        """Wait for the next."""
        self.waiting, self.looked = self.waiting + 1, self.looked + 1
        try:
            await self._changed.wait()
        finally:
            self.waiting -= 1


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Have the compiler make messages and a client of the .proto."""
    folder = tmp_path_factory.mktemp("generated")
    contract.compile_contract(f"--python_out={folder}", f"--grpc_python_out={folder}")
    sys.path.insert(0, str(folder))
    try:
        yield (
            importlib.import_module("externalscaler_pb2"),
            importlib.import_module("externalscaler_pb2_grpc"),
        )
    finally:
        sys.path.remove(str(folder))


@attrs.define(eq=False)
class Asked:
    """A client, and what it speaks to."""

    published: Published
    client: Any
    pb: Any
    port: int

    def reference(self, **metadata: str) -> Any:
        """Return what a ScaledObject is known by."""
        return self.pb.ScaledObjectRef(name="so", namespace="shop", scalerMetadata=metadata)

    async def metrics(self, name: str = "pythia-orders", **metadata: str) -> Any:
        """Ask for the number."""
        request = self.pb.GetMetricsRequest(scaledObjectRef=self.reference(**metadata), metricName=name)
        return await self.client.GetMetrics(request, timeout=SECONDS)


@pytest.fixture
async def asked(generated: tuple[ModuleType, ModuleType]) -> AsyncIterator[Asked]:
    """Serve on a free port, and dial."""
    pb, stubs = generated
    published = Published()
    scaler = ExternalScaler(published)  # type: ignore[arg-type]
    port = await scaler.open("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Asked(published, stubs.ExternalScalerStub(channel), pb, port)
    await scaler.aclose()


def test_what_ships_is_compiled_from_the_proto(anyio_backend: str) -> None:
    """Whoever changes the .proto compiles it: `python -m tests.metrics.contract`."""
    assert contract.SHIPPED.read_bytes() == contract.descriptor()


def test_names_and_numbers_are_the_contracts(anyio_backend: str) -> None:
    """As KEDA has them: a wrong number is another field to it, without a word."""
    messages = {kind.DESCRIPTOR.name: kind.DESCRIPTOR for pair in METHODS.values() for kind in pair}
    for whole, part in (("GetMetricSpecResponse", "metricSpecs"), ("GetMetricsResponse", "metricValues")):
        messages[part] = messages[whole].fields_by_name[part].message_type
    assert {name: {f.name: f.number for f in kind.fields} for name, kind in messages.items()} == {
        "ScaledObjectRef": {"name": 1, "namespace": 2, "scalerMetadata": 3},
        "IsActiveResponse": {"result": 1},
        "GetMetricSpecResponse": {"metricSpecs": 1},
        "GetMetricsRequest": {"scaledObjectRef": 1, "metricName": 2},
        "GetMetricsResponse": {"metricValues": 1},
        "metricSpecs": {"metricName": 1, "targetSize": 2, "targetSizeFloat": 3},
        "metricValues": {"metricName": 1, "metricValue": 2, "metricValueFloat": 3},
    }


async def test_x1_unknown_is_an_error(asked: Asked) -> None:
    """Before anything is known, and when nothing is any more; the specification is known all the same."""
    for _ in range(2):
        for call in (asked.client.IsActive(asked.reference(), timeout=SECONDS), asked.metrics()):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await asked.client.GetMetricSpec(asked.reference(), timeout=SECONDS)
        asked.published.publish(None)


async def test_x3_whole_and_fraction_are_filled(asked: Asked) -> None:
    """The number and its target of one for each replica; 0 is a number too."""
    (spec,) = (await asked.client.GetMetricSpec(asked.reference(), timeout=SECONDS)).metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("pythia-orders", 1, 1.0)
    for number in (7, 0):
        asked.published.publish(number)
        (value,) = (await asked.metrics()).metricValues
        assert (value.metricName, value.metricValue, value.metricValueFloat) == (
            "pythia-orders",
            number,
            number,
        )
        assert (await asked.client.IsActive(asked.reference(), timeout=SECONDS)).result == (number > 0)


async def test_a_metric_is_known_with_its_prefix_and_without(asked: Asked) -> None:
    """KEDA takes its ``s0-`` off; another name is another metric."""
    asked.published.publish(2)
    assert (await asked.metrics("s0-pythia-orders")).metricValues[0].metricName == "s0-pythia-orders"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await asked.metrics("kafka-orders")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_it_speaks_for_one_worker(asked: Asked) -> None:
    """A ScaledObject that names another has been copied."""
    asked.published.publish(2)
    assert (await asked.metrics(worker="orders", scalerAddress="here")).metricValues[0].metricValue == 2
    for call in (
        asked.metrics(worker="refunds"),
        asked.client.IsActive(asked.reference(worker="refunds"), timeout=SECONDS),
        asked.client.StreamIsActive(asked.reference(worker="refunds"), timeout=SECONDS).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_x2_a_stream_says_the_state_at_once_and_then_its_changes(asked: Asked) -> None:
    """Not every number: from none to some and back; one dialled later begins with what is."""
    stream = asked.client.StreamIsActive(asked.reference(), timeout=SECONDS)
    await eventually(lambda: asked.published.waiting == 1, "it listens, and nothing is known")
    for number in (None, 0, 0, 3, 5, None):
        await asked.published.shown(number)
    assert (await stream.read()).result is False
    assert (await stream.read()).result is True
    again = asked.client.StreamIsActive(asked.reference(), timeout=SECONDS)
    await eventually(lambda: asked.published.waiting == 2, "the other listens too")
    asked.published.publish(0)
    assert (await stream.read()).result is False
    assert (await again.read()).result is False
    stream.cancel()
    await eventually(lambda: asked.published.waiting == 1, "who has gone is forgotten")


async def test_a_stream_of_specifications_says_it_once_and_stays_open(asked: Asked) -> None:
    """It never changes; an end would have it dialled anew."""
    stream = asked.client.StreamMetricSpec(asked.reference(), timeout=SECONDS)
    assert (await stream.read()).metricSpecs[0].metricName == "pythia-orders"
    await eventually(lambda: asked.published.waiting == 1, "it is open")
    await asked.published.shown(1)
    assert asked.published.waiting == 1


async def test_a_port_in_use_is_said(asked: Asked) -> None:
    """And not shared, so that each server would get half of the calls."""
    with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
        await ExternalScaler(asked.published).open("127.0.0.1", asked.port)  # type: ignore[arg-type]


def test_a_metric_has_a_name_that_keda_keeps(anyio_backend: str) -> None:
    """Small letters, digits and hyphens: all else it would change or refuse."""
    assert [metric_name(name) for name in ("orders", "Shop/Orders_2.x", "é")] == [
        "pythia-orders",
        "pythia-shop-orders-2-x",
        "pythia-worker",
    ]
