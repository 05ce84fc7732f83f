"""The producer: what it writes, and what it says when it cannot."""

from concurrent.futures import Future

import pytest

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.codecs import TEXT
from pythia_core.contracts import Output
from pythia_core.errors import NotOpenError, WriteError


async def test_values_are_encoded_and_bytes_are_not() -> None:
    """JSON unless another codec is chosen; key and headers arrive as given, duplicates included."""
    broker = MemoryBroker()
    async with MemoryProducer("out", broker=broker) as sink:
        await sink.send({"id": 1}, key="k", headers=[("a", "1"), ("a", b"2")])
        await sink.send(b"raw", headers={"b": None})
    async with MemoryProducer("out", broker=broker, codec=TEXT) as sink:
        await sink.send("text")
    first, second, third = broker.records("out")
    assert (first.value, first.key, first.headers.items_all()) == (
        b'{"id":1}',
        "k",
        (("a", "1"), ("a", b"2")),
    )
    assert (second.value, second.key, second.headers.items_all()) == (b"raw", None, (("b", None),))
    assert third.value == b"text"


async def test_what_cannot_be_encoded_fails_for_good_and_alone() -> None:
    """The error is permanent and names the type; the other outputs are written."""
    broker = MemoryBroker()
    async with MemoryProducer("out", broker=broker) as sink:
        result = await sink.write([Output(sink, Future()), Output(sink, 1)])
    assert list(result.confirmed) == [1]
    assert result.errors[0].permanent
    assert "Future" in str(result.errors[0])


async def test_a_producer_must_be_open() -> None:
    """Before ``open`` and after ``aclose`` it says what to do; a copy for a worker is not open."""
    broker = MemoryBroker()
    sink = MemoryProducer("out", broker=broker)
    with pytest.raises(NotOpenError, match="await open"):
        await sink.send(1)
    async with sink:
        await sink.send(1)
        with pytest.raises(NotOpenError):
            await sink.fresh().send(1)
    await sink.aclose()
    with pytest.raises(NotOpenError):
        await sink.send(1)


async def test_send_raises_what_write_reports() -> None:
    """A failed output is an exception to who sends one."""
    broker = MemoryBroker()
    broker.fail_indexes({0: WriteError("full")})
    async with MemoryProducer("out", broker=broker) as sink:
        with pytest.raises(WriteError, match="full"):
            await sink.send(1)
