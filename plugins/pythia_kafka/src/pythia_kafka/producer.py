"""The sink: writes outputs to a topic, in batches, and says of each one what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

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
    cannot_delay,
    encode,
    prepare_outputs,
)
from pythia_kafka.options import KafkaOptions

if TYPE_CHECKING:
    from pythia_kafka.writing import Entry, Writer

COMPRESSIONS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]


@attrs.define(eq=False)
class KafkaProducer(KafkaOptions, Sink):
    """Write to a Kafka topic: confirmed by all replicas in sync, and by this producer once each and in order.

    An output that is not confirmed in time is reported as failed, though it may have been written: whoever writes it
    again may write it twice. Messages of a key go to one partition, the same that Kafka's own clients choose.

    Args:
        topic: the topic.
        codec: what encodes a value that is not bytes. None, with a key, is a tombstone.
        compression: none, gzip, snappy, lz4 or zstd.
        linger: seconds to wait for more to send at once; what is written together is sent together anyhow.
        max_request_bytes: of one message; at most what the topic's ``max.message.bytes`` allows.
        delivery_timeout: seconds until what is not confirmed counts as failed.
        create_topic: make the topic, as the broker does by default, if it is not there when the worker starts.
        bootstrap_servers: see :class:`~pythia_kafka.options.KafkaOptions`, like everything else.

    Example:
        ::

            async with KafkaProducer("orders") as orders:
                await orders.send({"id": 1}, key="customer-7")
    """

    topic: str
    codec: Codec = attrs.field(default=JSON, kw_only=True)
    compression: Compression = attrs.field(default="none", kw_only=True)
    linger: float = attrs.field(default=0.0, kw_only=True)
    max_request_bytes: int = attrs.field(default=1 << 20, kw_only=True)
    delivery_timeout: float = attrs.field(default=30.0, kw_only=True)
    create_topic: bool = attrs.field(default=False, kw_only=True)
    _writer: Writer | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.topic:
            raise ConfigError("topic is empty; it is the name of a topic, such as 'orders'")
        if self.compression not in COMPRESSIONS:
            raise ConfigError(
                f"compression is {self.compression!r}; it must be one of {', '.join(COMPRESSIONS)}"
            )
        if self.delivery_timeout <= 0 or self.linger < 0 or self.max_request_bytes <= 0:
            raise ConfigError(
                "delivery_timeout and max_request_bytes must be more than 0, and linger not negative"
            )

    @property
    def broker_connections(self) -> int:
        """Two clients: one writes, one looks at the topic at the start."""
        return 2

    @property
    def name(self) -> str:
        """The topic."""
        return self.topic

    async def open(self) -> None:
        """Connect.

        Raises:
            WriteError: if no broker can be reached.
        """
        from pythia_kafka.writing import Writer

        writer = Writer(
            self.login(),
            compression=None if self.compression == "none" else self.compression,
            linger=self.linger,
            max_request_bytes=self.max_request_bytes,
            seconds=self.delivery_timeout,
        )
        await writer.open()
        self._writer = writer

    async def aclose(self) -> None:
        """Disconnect."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.aclose()

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        """Write outputs in their order; see :meth:`pythia_core.Sink.write`."""
        errors: dict[int, WriteError] = {}
        entries = prepare_outputs(outputs, self._entry, errors)
        return await self._opened().write(self.topic, entries, errors)

    async def check(self) -> None:
        """Raise if the topic is not there, and make it if that was asked for. Whether we may write is not known before."""
        await self._opened().check(self.topic, create=self.create_topic)

    def _opened(self) -> Writer:
        if self._writer is None:
            raise NotOpenError(
                f"KafkaProducer({self.topic!r}) is not open: use `async with`, or await open() first"
            )
        return self._writer

    def _entry(self, index: int, output: Output) -> Entry:
        from pythia_kafka.writing import Entry, key_bytes, to_headers

        if output.delay is not None:
            raise cannot_delay(self)
        value = output.value
        try:
            key = key_bytes(output.key)
            if value is None and key is not None:
                return Entry(index, key, None, to_headers(output, None))
            is_body = isinstance(value, bytes | bytearray | memoryview)
            headers = to_headers(output, None if is_body else self.codec.content_type)
        except (TypeError, AttributeError, UnicodeError) as error:
            text = f"key or headers are not all str, bytes or None: {type(error).__name__}"
            raise WriteError(text, permanent=True) from None
        return Entry(index, key, bytes(encode(value, self.codec)), headers)
