"""A source: where messages come from, as an immutable description, and the live subscription made of it.

This is the contract a broker plugin is written against. The smallest honest source implements ``name`` and
``subscribe``, and its subscription ``fetch``, ``settle`` and ``aclose``; everything else has a default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

import attrs

from pythia_core.contracts.message import Message, Partition
from pythia_core.contracts.positions import Positions
from pythia_core.contracts.settlement import Assignment, Chunk, Refusals, Settlement
from pythia_core.errors import ConfigError

if TYPE_CHECKING:
    from pythia_core.contracts.sink import Sink

DEAD_LETTER_GROUP = "dead-letters"
"""The group in which dead letters are read where they naturally lie."""


SUSPECT_AFTER: Final = 3
"""Deliveries after which one more makes a message a suspect: it may have ended its process each time, so it runs alone."""

SOLO_CRASHES: Final = 3
"""Deliveries of a message alone, each without an end, after which it is taken for what ends its process."""


@attrs.frozen
class Capabilities:
    """What a source's broker can do. The defaults are the least: individual acknowledgement and nothing else.

    Args:
        ack: ``cumulative`` (a committed position), ``individual`` (each message), or ``both`` (AMQP's multiple flag).
        order_scope: ``partition`` if a key always comes to one consumer, ``consumer`` if only what one consumer receives
            is in order, ``none`` if not even that.
        window: the most unsettled messages the broker lets out (AMQP's prefetch), or None for no such bound.
        lease_seconds: how long a message stays ours without renewal, or None if for as long as we are connected.
        delivery_count: True if the broker counts deliveries and messages carry the count. So that only a message that
            runs alone is counted further, a fetch with a limit above 1 hands over what has been delivered
            :data:`SUSPECT_AFTER` times or more without raising the count that is kept (``Message.deliveries`` is that
            count plus 1 all the same), and releasing it does not lower it. A fetch with a limit of 1 prefers such a
            message and raises its count; releasing it takes that back.
        suspects: the partition by which suspects come, and nothing else, where the broker counts them apart from all others;
            None where they come among the others. Then those need not be given back while one runs, and wait here.
        solo_crashes: deliveries of a message alone, each without an end, after which it is a dead letter; more than the default
            where the broker's count cannot tell the end of a process from that of a connection.
        notes: True if a settlement's note is kept beside the committed position and handed over by the next assignment of
            the partition, whoever gets it (Kafka's offset metadata). Only with ``cumulative``. With notes a stop repeats
            nothing that was done behind a slow or a parked message; without them everything past the position is.
        rebalances: True if partitions come and go while subscribed.
        revoke_seconds: how long the broker waits for us to let go of a partition, or None.
        settle_seconds: how long the broker waits for a message to be settled before it takes it back, whatever we renew
            (RabbitMQ's consumer timeout), or None.
    """

    ack: Literal["cumulative", "individual", "both"] = "individual"
    order_scope: Literal["none", "consumer", "partition"] = "none"
    window: int | None = None
    lease_seconds: float | None = None
    delivery_count: bool = False
    suspects: Partition | None = None
    solo_crashes: int = SOLO_CRASHES
    notes: bool = False
    rebalances: bool = False
    revoke_seconds: float | None = None
    settle_seconds: float | None = None


@attrs.frozen
class Backlog:
    """How much is left to do. None means unknown, which is never written as 0 or -1.

    Args:
        waiting: messages not delivered yet.
        in_flight: messages delivered and not settled.
        oldest_age_seconds: age of the oldest unsettled message.
        at_least: True if ``waiting`` is only a lower bound.
        by_partition: the same for each partition, where the broker has partitions.
    """

    waiting: int | None = None
    in_flight: int | None = None
    oldest_age_seconds: float | None = None
    at_least: bool = False
    by_partition: Mapping[Partition, Backlog] = attrs.field(factory=dict[Partition, "Backlog"])


@attrs.frozen
class Start:
    """What a source may use to fill in what its author left out.

    Args:
        worker: the worker's name in kebab-case, the default consumer group.
        slot: number of this process under its supervisor, from 0.
        nonce: random text, new at every start of a process.
        concurrency: how many messages run at once.
        environ: the environment variables.
    """

    worker: str
    slot: int = 0
    nonce: str = ""
    concurrency: int = 20
    environ: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)


class Owner(Protocol):
    """The engine, as a subscription sees it. All three may be called while ``fetch`` or ``settle`` is under way."""

    def assigned(self, assignments: Mapping[Partition, Assignment]) -> None:
        """Take ownership of partitions. May come before ``subscribe`` has returned."""

    async def revoked(self, partitions: Sequence[Partition], deadline: float) -> None:
        """Let go of partitions: returns when they are drained and settled, at ``deadline`` (monotonic) at the latest."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget partitions that are no longer ours. Nothing of them is settled."""


class Subscription(ABC):
    """The live consumer. One engine owns it, calls ``fetch`` from one task and ``settle`` from one other.

    Invariants:
        - ``fetch`` is never cancelled before ``aclose``; ``settle`` calls are serial.
        - No position is settled that was not handed over by ``fetch`` under the assignment named.
        - Nothing is delivered after ``stop_fetching`` has returned, so that what is released stays released.
        - ``aclose`` calls no method of the owner, may be called twice, and ends a fetch that is still waiting.
    """

    @abstractmethod
    async def fetch(
        self, room: Mapping[Partition, int], limit: int, max_bytes: int, wait: float
    ) -> Sequence[Chunk]:
        """Return the next messages, or nothing.

        Args:
            room: how many messages each partition may bring; those without an entry bring none. If it is empty, ask
                for nothing, wait, and raise what the client has stored. Its order is that in which partitions should
                be read, longest wait first: whoever keeps to it is fair to all of them.
            limit: how many all of them together may bring.
            max_bytes: a hint for the size of the whole.
            wait: seconds to wait for the first message, at most 0.5.

        Raises:
            Exception: whatever it raises ends the subscription; the engine subscribes anew with backoff.
        """

    @abstractmethod
    async def settle(self, settlements: Sequence[Settlement]) -> Refusals:
        """Tell the broker what became of messages; return what it refused because it is no longer ours.

        If this raises, the outcome is unknown and the engine settles the same again, so it must be idempotent.
        """

    @property
    def more_is_coming(self) -> bool:
        """Whether the broker is known to have messages for us that the next fetches will bring; False if nothing is known.

        A moment in which all that came is done is then only a wait for them, and no reason to settle.
        """
        return False

    async def stop_fetching(self) -> None:
        """Stop delivery but stay a member. Messages of a fetch still under way are released by the engine."""

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect, within a few seconds even if the broker is gone."""


class Inspector:
    """A connection kept open to ask how much is left, and perhaps what. The default knows nothing."""

    async def backlog(self) -> Backlog:
        """Return the present backlog; parts that are unknown are None."""
        return Backlog()

    def browse(self) -> AsyncGenerator[Message[Any]] | None:
        """Return what is not settled, oldest first, without taking or counting it, or None.

        None, where a broker shows only what it delivers: whoever wants to look then takes messages and gives them back.
        """
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Source(ABC):
    """Where a worker's messages come from. An attrs class whose fields are its configuration schema.

    It holds no connection and may be shared by workers and processes.

    Example:
        A source over a list, which loses nothing because it never leaves the process::

            @attrs.frozen
            class Numbers(Source):
                count: int = 3

                @property
                def name(self) -> str:
                    return "numbers"

                async def subscribe(self, owner: Owner) -> Subscription:
                    owner.assigned({0: Assignment(id=1)})
                    return NumbersSubscription(self.count)
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What it reads, for logs, metrics and the names of dead-letter places: ``orders``."""

    @abstractmethod
    async def subscribe(self, owner: Owner) -> Subscription:
        """Connect and start to receive. Raises what connecting raises; the engine tries again with backoff."""

    @property
    def broker_connections(self) -> int:
        """The most connections that its subscription and its inspector hold at once, for ``max_connections``."""
        return 1

    @property
    def group(self) -> str | None:
        """The consumer group it reads as, or None where there is no such thing."""
        return None

    def resolve(self, start: Start) -> Source:
        """Return a copy in which everything left out is filled in. Called once, before anything else.

        Raises:
            ConfigError: if settings are missing or disagree.
        """
        return self

    @property
    def capabilities(self) -> Capabilities:
        """What the broker can do, as far as the resolved settings say."""
        return Capabilities()

    def inspect(self) -> Inspector:
        """Return an asynchronous context manager that answers how much is left."""
        return Inspector()

    def positions(self) -> Positions:
        """Return what shows how far the resolved source's group has got, and moves it: for ``pythia offsets``.

        Raises:
            ConfigError: if the broker keeps no positions.
        """
        raise ConfigError(
            f"{type(self).__name__} keeps no positions: how far {self.name} was read cannot be shown or moved"
        )

    def counterpart(self) -> Sink:
        """Return a sink that writes where this source reads: for sending, load tests, replay and conformance.

        Raises:
            ConfigError: if there is none.
        """
        raise ConfigError(
            f"{type(self).__name__} has no counterpart: nothing can be sent to {self.name!r} by it"
        )

    def dead_letters(self) -> tuple[Sink, Source] | None:
        """Return the natural place for this source's dead letters and a source that reads it, or None.

        Both are of the resolved source. The reader's group is the same whoever asks (:data:`DEAD_LETTER_GROUP`), since a
        dead letter replayed by one group must not be there for another. A source that reads such a place itself has
        none, or dead letters of dead letters would pile up where nobody looks. Where there is none the worker's
        configuration must say ``dead_letter=``.
        """
        return None

    def reads(self, sink: Sink) -> bool:
        """Tell whether what a sink writes comes to this source, as far as that can be told.

        A worker whose dead letters come back to it does not start: each would be processed, fail and be written again.
        """
        return False
