"""A message as a handler sees it, and its headers.

It stands apart from the chunk that carries it because user code lives with this class alone. Plugins subclass it to
read their native record lazily: what nobody looks at costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

if TYPE_CHECKING:
    from pythia_core.engine.ledger import Ledger
    from pythia_core.engine.outcomes import Failure

Body = TypeVar("Body")
HeaderValue = str | bytes | None
Partition = Hashable
Position = Any  # an int where acknowledgement is cumulative, any hashable token elsewhere


class Headers(Mapping[str, HeaderValue]):
    """Headers of a message: a mapping in which the last value of a name wins.

    Args:
        pairs: ``(name, value)`` in the broker's order; names may repeat. Values are str, bytes or None.
    """

    __slots__ = ("_last", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, HeaderValue]] = ()) -> None:
        self._pairs = tuple(pairs)
        self._last = dict(self._pairs)

    def __getitem__(self, name: str) -> HeaderValue:
        return self._last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def __contains__(self, name: object) -> bool:
        return name in self._last

    def get(self, name: str, default: Any = None, /) -> Any:
        """Return a value, or ``default``; the mapping's own would raise and catch an error for each that is missing."""
        return self._last.get(name, default)

    def items_all(self) -> tuple[tuple[str, HeaderValue], ...]:
        """Return every ``(name, value)`` in the broker's order, duplicates included."""
        return self._pairs

    def __repr__(self) -> str:
        return f"Headers({list(self._last)})"  # names only: values may be secrets


NO_HEADERS = Headers()
UNDECODED: Final = object()  # stands for a body that nobody has looked at yet


class Message(Generic[Body]):
    """One message.

    Args:
        raw: the body as bytes, undecoded.
        key: what ordering goes by, or None for none.
        headers: a :class:`Headers`.
        id: the broker's or the producer's identity of the message, for logs and deduplication.
        timestamp: seconds since the epoch at which it was published, or None if the broker does not say.
        partition: where it was read; ``0`` where the broker has no partitions.
        position: its place there: an offset, a delivery tag, an entry id.
        deliveries: how often the broker says it has delivered it, this time included, or None.
    """

    __slots__ = (
        "_body",
        "_failure",
        "_lane",
        "_ledger",
        "_next",
        "_sequence",
        "_state",
        "deliveries",
        "headers",
        "id",
        "key",
        "partition",
        "position",
        "raw",
        "size",
        "timestamp",
    )

    order_by: ClassVar[attrgetter[Any]] = attrgetter("key")
    """Where to find what ordering goes by: the key, or what stands for it one to one where the key takes work to read."""

    # Set by the engine at admission; a message never admitted has none of them.
    _ledger: Ledger
    _sequence: int
    _lane: Hashable
    _next: Message[Any] | None  # the message that waits behind this one for its key, if any
    _failure: Failure

    def __init__(
        self,
        raw: bytes,
        *,
        key: str | bytes | None = None,
        headers: Headers = NO_HEADERS,
        id: str = "",
        timestamp: float | None = None,
        partition: Partition = 0,
        position: Position = None,
        deliveries: int | None = None,
    ) -> None:
        self.raw = raw
        self.size: int = len(raw)  # bytes, for the limits on what is in flight
        self.key = key
        self.headers = headers
        self.id = id
        self.timestamp = timestamp
        self.partition = partition
        self.position = position
        self.deliveries = deliveries
        self._body: Any = UNDECODED

    @property
    def body(self) -> Body:
        """The decoded body, decoded on first use by the worker's codec.

        Raises:
            DecodeError: if it cannot be decoded; left to itself this dead-letters the message.
        """
        try:
            body = self._body
        except (
            AttributeError
        ):  # a subclass with an __init__ of its own need not set it, but it saves a fifth of a us
            body = UNDECODED
        if body is UNDECODED:
            body = self._body = self._ledger.decode(self)
        return body  # type: ignore[no-any-return]

    @property
    def attempt(self) -> int:
        """Which attempt at this message this is, counted from 1, in this process and by the broker's note."""
        try:
            return self._failure.attempts + 1
        except AttributeError:
            return 1

    @property
    def state(self) -> dict[str, Any]:
        """What middleware keeps with the message from one attempt to the next in this process; made at its first use.

        A message that is delivered again begins with an empty one.
        """
        try:
            return self._state
        except AttributeError:
            self._state: dict[str, Any] = {}
            return self._state

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.partition!r}:{self.position!r} key={self.key!r} {self.size} B>"
