"""What is being worked on stands in each line of log and goes on with outputs, and nowhere else."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pythia_core import Headers, Message, Output
from pythia_core.logs import JsonFormatter, SafeHandler, TextFormatter
from pythia_core.middleware import LogContext

log = logging.getLogger("tests.context")


@pytest.fixture
def lines() -> Any:
    """What is logged, as JSON."""
    stream = io.StringIO()
    handler = SafeHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    log.removeHandler(handler)


def message(**headers: Any) -> Message[Any]:
    """A message with these headers."""
    return Message(b"1", id="m-1", partition=3, position=7, headers=Headers(headers.items()))


async def test_lines_say_what_is_worked_on(lines: Any) -> None:
    """In the handler and in its threads, not after; what a line says itself goes before."""

    async def handler(each: Message[Any]) -> None:
        log.info("here", extra={"attempt": "mine"})
        await anyio.to_thread.run_sync(log.info, "in a thread")

    await LogContext().wrap(handler)(message())
    log.info("after")
    here, thread, after = lines()
    said = {"message_id": "m-1", "correlation_id": "m-1", "partition": 3, "position": 7}
    assert said.items() <= here.items()
    assert here["attempt"] == "mine"
    assert {**said, "attempt": 1}.items() <= thread.items()
    assert not said.keys() & after.keys()


async def test_messages_that_are_worked_on_together_do_not_mix(lines: Any) -> None:
    """Each task has its own."""

    async def handler(each: Message[Any]) -> None:
        await anyio.lowlevel.checkpoint()
        log.info(each.raw.decode())

    told: Any = LogContext().wrap(handler)
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(told, Message(b"%d" % number, id=f"m-{number}"))
    assert {line["message"]: line["message_id"] for line in lines()} == {str(n): f"m-{n}" for n in range(5)}


async def test_the_correlation_id_comes_with_the_message(lines: Any) -> None:
    """As text or bytes; a stranger's control characters are escaped as everywhere."""

    async def handler(each: Message[Any]) -> None:
        log.info("here")

    for value in ("order-7", b"order-7", "forged\nline"):
        await LogContext("trace").wrap(handler)(message(trace=value))
    assert [line["correlation_id"] for line in lines()] == ["order-7", "order-7", "forged\\nline"]


async def test_a_batch_says_how_many(lines: Any) -> None:
    """And which comes first."""

    async def handler(batch: list[Message[Any]]) -> None:
        log.info("here")

    await LogContext().wrap(handler)([message(), message()])
    assert {"batch": 2, "message_id": "m-1"}.items() <= lines()[0].items()


@pytest.mark.parametrize(
    ("result", "headers"),
    [
        ("a value", [(("correlation-id", "c"),)]),
        (Output(None, 1), [(("correlation-id", "c"),)]),
        (Output(None, 1, headers={"a": "b"}), [(("a", "b"), ("correlation-id", "c"))]),
        (Output(None, 1, headers=Headers([("a", "b")])), [(("a", "b"), ("correlation-id", "c"))]),
        (
            [Output(None, 1), Output(None, 2, headers=[("correlation-id", "own")])],
            [(("correlation-id", "c"),), None],
        ),
    ],
)
async def test_outputs_get_the_correlation_id(result: Any, headers: list[Any]) -> None:
    """Unless they have one."""

    async def handler(each: Message[Any]) -> Any:
        return result

    outputs = await LogContext().wrap(handler)(message(**{"correlation-id": "c"}))
    given = [output.headers for output in outputs]
    assert given == [want or [("correlation-id", "own")] for want in headers]


async def test_nothing_returned_stays_nothing_and_handing_on_may_be_off() -> None:
    """What a handler returns is what the engine gets."""

    async def handler(each: Any) -> Any:
        return each.raw or None

    assert await LogContext().wrap(handler)(Message(b"")) is None
    assert await LogContext(hand_on=False).wrap(handler)(Message(b"x")) == b"x"


async def test_text_lines_have_it_too() -> None:
    """After the text, as what was given by extra."""
    record = logging.makeLogRecord({"msg": "here", "levelname": "INFO", "name": "x"})
    texts: list[str] = []

    async def handler(each: Message[Any]) -> None:
        texts.append(TextFormatter().format(record))

    await LogContext().wrap(handler)(message())
    assert "here message_id=m-1 correlation_id=m-1" in texts[0]
