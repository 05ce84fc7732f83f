"""A message that may have ended its process: as the engine sees it, and as it travels to the place beside its queue.

It travels whole. What the server said of it and what its header carried go along as the bytes they were, so that a handler
sees no difference, and nothing in it has any effect on the way: no ``CC`` brings it elsewhere, no user id is checked.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from aiormq import spec
from aiormq.abc import DeliveredMessage

from pythia_core import SUSPECT_AFTER
from pythia_rabbitmq.message import COUNT, PERSISTENT, RabbitMQMessage
from pythia_rabbitmq.source import ASIDE

SUSPECTS: Final = ASIDE
LARGEST: Final = 100_000  # bytes beside the body; what carries them is one frame of 128 KiB
ACQUIRED: Final = (
    "x-acquired-count"  # since RabbitMQ 4.3, where a consumer that dies no longer counts as x-delivery-count
)
ANNOUNCED: Final = "x-pythia-announced"
CONTENT: Final = "x-pythia-content"
NAME: Final = "x-pythia-suspect"
CRASHES: Final = "x-pythia-crashes"


class Spared(RabbitMQMessage):
    """One that may be a suspect and cannot be put aside: it runs like any other."""

    __slots__ = ()

    @property
    def deliveries(self) -> int:  # type: ignore[override]
        """As many as raise no suspicion."""
        return SUSPECT_AFTER


class Suspect(RabbitMQMessage):
    """One that was delivered so often that it may have ended its process, in its queue.

    Args:
        announced: see :class:`RabbitMQMessage`, like the next two.
        content: its properties.
        raw: its body.
        name: a name of its own for as long as it is a suspect; a new one if left out.
        crashes: how often a process has ended while it ran alone.
    """

    __slots__ = ("crashes", "name")

    def __init__(
        self, announced: bytes, content: bytes, raw: bytes, name: str = "", crashes: int = 0
    ) -> None:
        super().__init__(announced, content, raw)
        self.name = name or secrets.token_hex(8)
        self.crashes = crashes

    @classmethod
    def of(cls, message: RabbitMQMessage) -> Suspect:
        """Return a message as a suspect; its deliveries are no evidence, since neighbours were counted with it."""
        return cls(message._announced, message._content, message.raw)

    @property
    def deliveries(self) -> int:  # type: ignore[override]
        """Those that made it a suspect, those that ended a process in which it was alone, and this one."""
        return SUSPECT_AFTER + 1 + self.crashes

    @property
    def id(self) -> str:  # type: ignore[override]
        """The publisher's id of it, or the name it has as a suspect."""
        return super().id or self.name


class Aside(Suspect):
    """A suspect that lies beside its queue; its position is no delivery tag."""

    __slots__ = ()

    partition = SUSPECTS  # type: ignore[assignment]


def can_travel(message: RabbitMQMessage) -> bool:
    """Tell whether a message can be put aside: what is beside its body has to fit into the header of another one."""
    return len(message._announced) + len(message._content) <= LARGEST


def to_properties(suspect: Suspect) -> spec.Basic.Properties:
    """Return what goes beside the body of a suspect on its way."""
    headers: dict[str, Any] = {
        ANNOUNCED: bytearray(suspect._announced),
        CONTENT: bytearray(suspect._content),
        NAME: suspect.name,
        CRASHES: suspect.crashes,
    }
    return spec.Basic.Properties(headers=headers, delivery_mode=PERSISTENT)


def read(found: DeliveredMessage) -> Aside:
    """Return the suspect that a message carries; one that somebody else has put there is taken for a suspect itself."""
    properties, body = found.header.properties, found.body
    headers: dict[str, Any] = dict(properties.headers or {})
    counted = max(_number(headers.get(COUNT)), _number(headers.get(ACQUIRED)))
    if not isinstance(headers.get(ANNOUNCED), bytes | bytearray):
        announced = spec.Basic.Deliver("", 0, False, found.exchange or "", found.routing_key or "")
        return Aside(announced.marshal(), properties.marshal(), body, properties.message_id or "", counted)
    return Aside(
        bytes(headers[ANNOUNCED]),
        bytes(headers[CONTENT]),
        body,
        str(headers[NAME]),
        _number(headers[CRASHES]) + counted,
    )


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
