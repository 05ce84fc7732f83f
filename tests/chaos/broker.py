"""A broker as chaos needs it: to be filled, broken, and asked what has become of messages. One subclass a broker."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import attrs

from pythia_core import Source
from tests.servers.server import Server

BROKERS = {
    "kafka": "tests.chaos.kafka:KafkaBroker",
    "rabbitmq": "tests.chaos.rabbitmq:RabbitBroker",
    "redis": "tests.chaos.redis_streams:RedisBroker",
}
"""Name -> where its class is; imported on demand, so that no broker's client is needed for another's chaos."""


@attrs.frozen
class DeadLetter:
    """A dead letter, as the broker has it.

    Args:
        body: of the message that died.
        attempts: after how many.
    """

    body: bytes
    attempts: int


class Broker(ABC):
    """One broker that keeps what it has confirmed, and everything that is particular about it.

    `with` starts and ends it. Senders and askers are used by a thread each, through every outage: all of their methods
    raise OSError or a subclass of it while the broker cannot be reached, and connect again by themselves.
    """

    ordered: ClassVar[bool] = False
    killers: ClassVar[bool] = True
    """Whether a message that kills its process is found out: not where deliveries tell nothing about it."""
    disconnects: ClassVar[bool] = False
    """Whether :meth:`disconnect` is a fault that the nemesis may choose."""
    patience: ClassVar[float] = 30.0
    """Seconds without any effect that are too long."""
    rest: ClassVar[float] = 120.0
    """Seconds after the last fault in which all has to be done, six crashes of every killer included."""
    server: Server

    @property
    @abstractmethod
    def environ(self) -> Mapping[str, str]:
        """What workers need to know to find it."""

    @classmethod
    @abstractmethod
    def source(cls) -> Source:
        """Return what workers read, in a worker's process; what has to be known comes from the environment."""

    @abstractmethod
    def sender(self) -> "Sender":
        """Return a way to fill it."""

    @abstractmethod
    def asker(self) -> "Asker":
        """Return a way to ask it."""

    def disconnect(self) -> None:
        """Have the server end all connections."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()


class Sender(ABC):
    """Fills a broker."""

    @abstractmethod
    def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send ``(key, body)`` pairs, never twice, and return once all are confirmed. If it raises, nobody knows."""


class Asker(ABC):
    """Asks a broker."""

    def settled(self) -> list[bytes]:
        """Return the bodies of messages found to be settled that were not at the last time; none where nobody tells."""
        return []

    @abstractmethod
    def dead(self) -> list[DeadLetter]:
        """Return the dead letters that were not there at the last time."""

    @abstractmethod
    def left(self) -> tuple[int, int]:
        """Return how many messages wait, and how many are delivered and not settled."""


def find_broker(name: str) -> type[Broker]:
    """Return the class of a broker by its name."""
    module, _, attribute = BROKERS[name].partition(":")
    found: Any = getattr(import_module(module), attribute)
    return cast("type[Broker]", found)
