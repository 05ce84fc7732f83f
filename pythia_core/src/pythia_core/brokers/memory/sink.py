"""The sink: writes to a topic of the broker in memory, and says of each output what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import anyio.lowlevel
import attrs

from pythia_core.brokers.memory.broker import find_broker
from pythia_core.codecs import JSON, encode
from pythia_core.contracts.sink import Output, Sink, WriteResult
from pythia_core.errors import NotOpenError
from pythia_core.outputs import cannot_delay, milliseconds, prepare_outputs

MOST: Final = 1 << 50  # milliseconds


@attrs.define(eq=False)
class MemoryProducer(Sink):
    """Write to a topic.

    Args:
        topic: where to; made if it is not there.
        broker: a broker or the name of one of this process's brokers.
        codec: what encodes a value that is not bytes.
        delays: whether it holds outputs back for their delay, by the broker's clock.
    """

    topic: str
    broker: Any = attrs.field(default=None, converter=find_broker, kw_only=True)
    codec: Any = attrs.field(default=JSON, kw_only=True)
    _delays: bool = attrs.field(default=True, kw_only=True, alias="delays")
    _opened: bool = attrs.field(default=False, init=False, repr=False)

    @property
    def broker_connections(self) -> int:
        """None."""
        return 0

    @property
    def name(self) -> str:
        """The topic."""
        return self.topic

    @property
    def delays(self) -> bool:
        """Whether it holds outputs back."""
        return self._delays

    def fresh(self) -> Self:
        """Return a copy that is not open."""
        return attrs.evolve(self)

    async def open(self) -> None:
        """Be ready to write."""
        self._opened = True

    async def aclose(self) -> None:
        """Refuse to write from now on."""
        self._opened = False

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        """Append each output. After one that fails, later ones of its key are not written: they would overtake it."""
        if not self._opened:
            raise NotOpenError(
                f"MemoryProducer({self.topic!r}) is not open: use `async with`, or await open() first"
            )
        await anyio.lowlevel.checkpoint()
        await self.broker.before("write", self.topic)
        result = self._append(outputs)
        self.broker.after("write", self.topic)
        return result

    def _append(self, outputs: Sequence[Output]) -> WriteResult:
        errors = dict(self.broker.index_errors(self.topic))

        def publish(index: int, output: Output) -> int:
            if index in errors:
                raise errors[index]
            if output.delay is not None and not self.delays:
                raise cannot_delay(self)
            delay = milliseconds(output, most=MOST) / 1000
            value = encode(output.value, self.codec)
            self.broker.publish(self.topic, value, key=output.key, headers=output.headers, delay=delay)
            return index

        return WriteResult(prepare_outputs(outputs, publish, errors), errors)
