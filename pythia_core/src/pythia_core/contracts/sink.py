"""A sink: where outputs and dead letters go. It confirms each one, since an input is settled only after its outputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import attrs

from pythia_core.contracts.message import Headers, HeaderValue
from pythia_core.contracts.resource import Resource
from pythia_core.errors import WriteError

HeaderInput = Mapping[str, HeaderValue] | Sequence[tuple[str, HeaderValue]]


@attrs.frozen
class Output:
    """One message to be written.

    Args:
        sink: where to; None means the worker's own ``sink``.
        value: bytes go as they are, anything else is encoded by the sink's codec (JSON).
        key: what ordering goes by at the receiving side, str or bytes, or None.
        headers: a mapping, or pairs where a name repeats.
        delay: seconds for which the broker is to hold it back, where the sink can (:attr:`Sink.delays`); None for none. It
            is confirmed once the broker has it for good. Held outputs keep no order, not even those of one key.
    """

    sink: Sink | None
    value: Any
    key: str | bytes | None = attrs.field(default=None, kw_only=True)
    headers: HeaderInput | None = attrs.field(default=None, kw_only=True)
    delay: float | None = attrs.field(default=None, kw_only=True)

    def with_header(self, name: str, value: HeaderValue) -> Output:
        """Return this output with one header more, unless it has one of this name."""
        given = self.headers or ()
        if isinstance(given, Headers):
            pairs = given.items_all()
        else:
            pairs = tuple(given.items() if isinstance(given, Mapping) else given)
        known = any(had == name for had, _ in pairs)
        return self if known else attrs.evolve(self, headers=(*pairs, (name, value)))


outgoing: ContextVar[Callable[[Output], Output] | None] = ContextVar("pythia outgoing", default=None)
"""What :meth:`Sink.send` does with an output before it writes it, such as to add the header of a trace.

A middleware sets it for what handlers send; what they return it sees itself. It must not raise.
"""


@attrs.frozen
class WriteResult:
    """What became of each output of one ``write``. An index that is not mentioned counts as failed.

    Args:
        confirmed: indexes the broker confirmed.
        errors: error by index for the others; one with ``permanent=True`` is never tried again.
    """

    confirmed: Collection[int]
    errors: Mapping[int, WriteError] = attrs.field(factory=dict[int, WriteError])

    def error(self, index: int) -> WriteError | None:
        """Return why the output at ``index`` is not confirmed, or None if it is."""
        if index in self.confirmed:
            return None
        return self.errors.get(index) or WriteError("the sink did not say what became of this output")


class Sink(Resource):
    """Where outputs go. Order per key holds within a sink: after a failed index, later outputs of that key wait."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Where it writes, for logs and metrics."""

    @property
    def broker_connections(self) -> int:
        """One, unless it says otherwise; see :class:`Resource`."""
        return 1

    @property
    def delays(self) -> bool:
        """Whether the broker can hold an output back (``Output(delay=)``). The engine gives no such output to one that cannot.

        One that says so holds it back durably, so that neither its own end nor the broker's restart brings it sooner or
        loses it.
        """
        return False

    @abstractmethod
    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        """Write all of them and account for each one once the broker has confirmed or refused it.

        Raises:
            Exception: if the outcome of all is unknown; they count as failed, and not for good.
        """

    async def send(
        self,
        value: Any,
        *,
        key: str | bytes | None = None,
        headers: HeaderInput | None = None,
        delay: float | None = None,
    ) -> None:
        """Write one output and return when the broker has confirmed it, by way of what ``outgoing`` is; see :class:`Output`.

        Raises:
            WriteError: if it is not confirmed.
        """
        if delay is not None and not self.delays:
            raise cannot_delay(self)
        output = Output(self, value, key=key, headers=headers, delay=delay)
        if (prepare := outgoing.get()) is not None:
            output = prepare(output)
        result = await self.write([output])
        if error := result.error(0):
            raise error

    async def check(self) -> None:
        """Raise if nothing can be written here now (a missing topic, no permission). Asked at the worker's start."""


def cannot_delay(sink: Sink) -> WriteError:
    """Return why a sink does not take an output with a delay, and what to do instead."""
    return WriteError(
        f"{type(sink).__name__} cannot hold an output back (delay=): have the worker that reads {sink.name} raise "
        "Retry(delay) until it is time, or send to a broker that can, RabbitMQ or Redis",
        permanent=True,
    )
