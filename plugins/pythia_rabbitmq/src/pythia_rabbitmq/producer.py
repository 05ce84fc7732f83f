"""The sink: publishes outputs, pipelined, and says of each one what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from pythia_core import (
    JSON,
    Codec,
    ConfigError,
    NotOpenError,
    Output,
    Sink,
    WriteError,
    WriteResult,
    encode,
    milliseconds,
    prepare_outputs,
)
from pythia_rabbitmq.options import RabbitMQOptions

if TYPE_CHECKING:
    from pythia_rabbitmq.press import Entry
    from pythia_rabbitmq.writing import Writer

LARGEST: Final = (
    16 << 20
)  # bytes; RabbitMQ 4's default, and a larger one ends the channel for all that is under way
LONGEST_ROUTING_KEY: Final = 255  # bytes


@attrs.define(eq=False)
class RabbitMQProducer(RabbitMQOptions, Sink):
    """Publish to an exchange or straight to a queue, persistently, on a connection of its own.

    An output counts as written when the server has confirmed it; one that no queue takes is an error. One that is not
    confirmed in time is reported as failed, though it may have been written: whoever writes it again may write it twice.
    Outputs that share a key are written one after the other, each confirmed before the next, so that none overtakes an
    earlier one that was refused; give no key where order does not matter.

    Args:
        exchange: its name; the default exchange if left out.
        routing_key: with which routing key; each output's key if left out.
        queue: a queue, instead of an exchange and a routing key.
        codec: what encodes a value that is not bytes.
        max_message_bytes: of one body; larger ones are refused here.
        delivery_timeout: seconds until what is not confirmed counts as failed.
        declare: make the queue with these arguments if it is not there; None leaves that to others.
        durable: whether a queue that is made outlives the server.
        url: see :class:`~pythia_rabbitmq.options.RabbitMQOptions`, like everything else.

    Example:
        ::

            async with RabbitMQProducer(queue="tasks") as tasks:
                await tasks.send({"id": 1})
    """

    exchange: str = ""
    routing_key: str | None = attrs.field(default=None, kw_only=True)
    queue: str | None = attrs.field(default=None, kw_only=True)
    codec: Codec = attrs.field(default=JSON, kw_only=True)
    max_message_bytes: int = attrs.field(default=LARGEST, kw_only=True)
    delivery_timeout: float = attrs.field(default=30.0, kw_only=True)
    declare: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True)
    durable: bool = attrs.field(default=True, kw_only=True)
    _writer: Writer | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.queue is not None and (self.exchange or self.routing_key is not None):
            raise ConfigError("queue is instead of exchange and routing_key: give one or the others")
        if not (self.queue or self.exchange or self.routing_key):
            raise ConfigError("queue='tasks', or exchange= with routing_key=, says where outputs go")
        if self.max_message_bytes <= 0 or self.delivery_timeout <= 0:
            raise ConfigError("max_message_bytes and delivery_timeout must be more than 0")

    @property
    def name(self) -> str:
        """The queue, or exchange and routing key."""
        return self.queue or f"{self.exchange}:{self.routing_key or '*'}"

    @property
    def delays(self) -> bool:
        """Yes: in a quorum queue for each different delay, of two digits, from which messages go on to the exchange."""
        return True

    async def open(self) -> None:
        """Connect, and make the queue if that was asked for.

        Raises:
            WriteError: if that cannot be done.
        """
        from pythia_rabbitmq.writing import Writer

        writer = Writer(
            self.address(),
            self.exchange,
            queue=self.queue,
            declare=self.declare,
            durable=self.durable,
            seconds=self.delivery_timeout,
        )
        try:
            await writer.open()
        except BaseException:
            await writer.aclose()
            raise
        self._writer = writer

    async def aclose(self) -> None:
        """Disconnect."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.aclose()

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        """Write outputs in their order; see :meth:`pythia_core.Sink.write`."""
        writer = self._opened()
        errors: dict[int, WriteError] = {}
        return await writer.write(prepare_outputs(outputs, self._entry, errors), errors)

    async def check(self) -> None:
        """Raise if the queue or exchange is not there, or make the queue if that was asked for."""
        await self._opened().check()

    def _opened(self) -> Writer:
        if self._writer is None:
            raise NotOpenError(
                f"RabbitMQProducer({self.name!r}) is not open: use `async with`, or await open() first"
            )
        return self._writer

    def _entry(self, index: int, output: Output) -> Entry:
        from pythia_rabbitmq.delays import LONGEST, rounded
        from pythia_rabbitmq.message import to_properties
        from pythia_rabbitmq.press import Entry

        value = output.value
        is_body = isinstance(value, bytes | bytearray | memoryview)
        body = bytes(encode(value, self.codec))
        if len(body) > self.max_message_bytes:
            raise WriteError(
                f"a body of {len(body)} bytes: at most {self.max_message_bytes} are written "
                "(max_message_bytes; RabbitMQ has such a bound too)",
                permanent=True,
            )
        try:
            routing_key = self._routing_key(output)
            properties = to_properties(output, None if is_body else self.codec.content_type)
        except (TypeError, AttributeError, UnicodeError) as error:
            text = f"key or headers are not all str, bytes or None: {type(error).__name__}"
            raise WriteError(text, permanent=True) from None
        except ValueError as error:
            raise WriteError(str(error), permanent=True) from None
        wait = milliseconds(output, most=LONGEST) if output.delay is not None else 0
        return Entry(index, output.key, routing_key, properties, body, rounded(wait))

    def _routing_key(self, output: Output) -> str:
        key = self.queue or self.routing_key
        if key is None:
            key = output.key.decode() if isinstance(output.key, bytes) else output.key
        if key is None:
            raise WriteError(
                f"no routing key for exchange {self.exchange!r}: give routing_key=, or each output a key",
                permanent=True,
            )
        if len(key.encode()) > LONGEST_ROUTING_KEY:
            raise WriteError(
                f"a routing key of {len(key.encode())} bytes: AMQP takes at most {LONGEST_ROUTING_KEY}",
                permanent=True,
            )
        return key
