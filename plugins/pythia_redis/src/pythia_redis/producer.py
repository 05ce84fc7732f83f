"""The sink: writes outputs to a stream in one round trip, and says of each one what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

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
from pythia_redis.options import RedisOptions

if TYPE_CHECKING:
    from pythia_redis.connection import Wire
    from pythia_redis.writing import Entry

LARGEST: Final = 512 << 20  # bytes of any text, Redis's default
LONGEST_HELD: Final = 1 << 43  # milliseconds, 278 years: added to the time it is still exact as a score


@attrs.define(eq=False)
class RedisStreamsProducer(RedisOptions, Sink):
    """Write to a Redis stream; it is made if it is not there.

    Nothing is ever written again by itself: where an answer was lost, the output is reported as failed, and whoever
    writes it again may write it twice. Give outputs an identity of their own where that matters.

    Args:
        stream: the key of the stream.
        codec: what encodes a value that is not bytes.
        maxlen: trim the stream to about so many entries, whether anybody has read them or not. Never do that to a
            stream that is a work queue: what is trimmed before it was read is lost.
        replicas: how many replicas have to have an output before it counts as confirmed.
        replica_timeout: seconds they may take.
        url: see :class:`~pythia_redis.options.RedisOptions`, like everything else.

    Example:
        ::

            async with RedisStreamsProducer("events") as events:
                await events.send({"id": 1}, key="customer-7")
    """

    stream: str
    codec: Codec = attrs.field(default=JSON, kw_only=True)
    maxlen: int | None = attrs.field(default=None, kw_only=True)
    replicas: int = attrs.field(default=0, kw_only=True)
    replica_timeout: float = attrs.field(default=1.0, kw_only=True)
    _wire: Wire | None = attrs.field(default=None, init=False, repr=False)
    _largest: int = attrs.field(default=LARGEST, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.stream:
            raise ConfigError("stream is empty; it is the key of a Redis stream, such as 'events'")
        if self.maxlen is not None and self.maxlen < 1:
            raise ConfigError(f"maxlen is {self.maxlen}; it must be at least 1, or None to keep everything")
        if self.replicas < 0 or self.replica_timeout <= 0:
            raise ConfigError(
                "replicas must not be negative, and replica_timeout must be more than 0 seconds"
            )

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream

    @property
    def delays(self) -> bool:
        """Yes: in a sorted set beside the stream, which Pythia's consumers of the stream move from what is due."""
        return True

    async def open(self) -> None:
        """Connect, and ask how large a body may be: a larger one makes the server close the connection unheard."""
        from pythia_redis.connection import Wire

        wire = Wire(self.address(), name=f"{self.stream}/write")
        try:
            _, largest = await wire.pipeline([("PING",), ("CONFIG", "GET", "proto-max-bulk-len")])
            if isinstance(largest, list) and len(largest) == 2:  # else we may not ask
                self._largest = int(largest[1])
        except BaseException:
            await wire.aclose()
            raise
        self._wire = wire

    async def aclose(self) -> None:
        """Disconnect."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.aclose()

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        """Write outputs in their order; see :meth:`pythia_core.Sink.write`.

        Outputs that share a key are written together or not at all, so that none overtakes an earlier one that failed.
        """
        from pythia_redis.writing import Batch

        errors: dict[int, WriteError] = {}
        batch = Batch(self._opened(), self.replicas, int(self.replica_timeout * 1000))
        confirmed = await batch.write(prepare_outputs(outputs, self._entry, errors), errors)
        return WriteResult(confirmed, errors)

    async def check(self) -> None:
        """Raise if nothing can be written here now. Nothing is written to find out."""
        from pythia_redis.writing import check_writable

        await check_writable(self._opened(), self.stream)

    def _opened(self) -> Wire:
        if self._wire is None:
            raise NotOpenError(
                f"RedisStreamsProducer({self.stream!r}) is not open: use `async with`, or await open() first"
            )
        return self._wire

    def _entry(self, index: int, output: Output) -> Entry:
        from pythia_redis.connection import pack
        from pythia_redis.message import to_fields
        from pythia_redis.writing import Entry

        value = output.value
        is_body = isinstance(value, bytes | bytearray | memoryview)
        body = encode(value, self.codec)
        if len(body) > self._largest:
            raise WriteError(
                f"a body of {len(body)} bytes: Redis takes at most {self._largest}", permanent=True
            )
        trim = () if self.maxlen is None else ("MAXLEN", "~", self.maxlen)
        held_ms = milliseconds(output, most=LONGEST_HELD)
        try:
            fields = to_fields(output, body, None if is_body else self.codec.content_type)
            if held_ms:
                from pythia_redis.held import pack_held

                return Entry(index, output.key, pack_held(self.stream, held_ms, self.maxlen, fields))
            return Entry(index, output.key, pack(("XADD", self.stream, *trim, "*", *fields)))
        except (TypeError, AttributeError, UnicodeError) as error:
            text = f"key or headers are not all str, bytes or None: {type(error).__name__}"
            raise WriteError(text, permanent=True) from None
