"""Queues and what leads to them: declared, looked for, asked about; each on a channel of its own, which an error ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import aiormq
import attrs

from pythia_rabbitmq.connection import Line, Mismatch, ask, close_quietly, log

if TYPE_CHECKING:
    from pythia_rabbitmq.source import RabbitMQConsumer


@attrs.frozen
class Depth:
    """What AMQP tells about a queue.

    Args:
        ready: messages that wait for a consumer.
        consumers: how many there are.
    """

    ready: int
    consumers: int


async def on_channel(line: Line, what: str, question: Callable[[aiormq.Channel], Awaitable[Any]]) -> Any:
    """Ask on a channel that is made for it."""
    channel = await line.channel()
    try:
        return await ask(lambda: question(channel), f"{what} at RabbitMQ {line.host}")
    finally:
        await close_quietly(channel.close, f"a channel to RabbitMQ at {line.host}")


async def declare(line: Line, queue: str, *, durable: bool = True, arguments: Mapping[str, Any]) -> None:
    """Make a queue, if it is not there.

    Raises:
        Mismatch: if it is there with other settings.
        ConnectionLost: if that cannot be done.
    """
    await on_channel(
        line,
        f"declaring queue {queue!r}",
        lambda channel: channel.queue_declare(queue, durable=durable, arguments=dict(arguments)),
    )


async def bind(line: Line, queue: str, bindings: Sequence[tuple[str, str]]) -> None:
    """Have exchanges bring messages to a queue.

    Raises:
        NotThere: if one of them is not there.
    """
    for exchange, routing_key in bindings:
        what = f"binding queue {queue!r} to exchange {exchange!r}"
        await on_channel(line, what, partial(_bind, queue, exchange, routing_key))


async def _bind(queue: str, exchange: str, routing_key: str, channel: aiormq.Channel) -> None:
    await channel.queue_bind(queue, exchange, routing_key=routing_key)


async def must_be_there(line: Line, queue: str) -> Depth:
    """Return how deep a queue is.

    Raises:
        NotThere: if it is not there.
    """
    answer = await on_channel(
        line, f"queue {queue!r}", lambda channel: channel.queue_declare(queue, passive=True)
    )
    return Depth(answer.message_count, answer.consumer_count)


async def find(line: Line, source: RabbitMQConsumer) -> None:
    """Make the queue of a source, with what leads to it, or see that it is there, as its author wants it.

    Raises:
        NotThere: if it, or an exchange that is to bring messages to it, is not there.
        ConnectionLost: if that cannot be done.
    """
    if not source.declare or (source.when_gone == "fail" and source.queue in source.met):
        await must_be_there(line, source.queue)
        return
    try:
        await declare(line, source.queue, durable=source.durable, arguments=source.queue_arguments)
    except Mismatch as error:
        log.warning("queue %s is used as it is: %s", source.queue, error)
    await bind(line, source.queue, source.bindings)


async def exchange_must_be_there(line: Line, exchange: str) -> None:
    """Raise NotThere if an exchange is not there."""
    await on_channel(
        line, f"exchange {exchange!r}", lambda channel: channel.exchange_declare(exchange, passive=True)
    )
