"""The consumer group as the server has it: made where it is missing, and missed where it is gone.

It stands apart because the group can go at any time: FLUSHALL, an eviction, a failover to a replica that never heard of
it, or an operator.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import attrs
from redis import exceptions

from pythia_core import ConfigError
from pythia_redis.connection import Wire

log = logging.getLogger("pythia.redis")

# The second is what a read that waits is told when the stream is deleted (Redis 7.0).
GONE: Final = ("NOGROUP", "UNBLOCKED")
STARTS: Final = {"earliest": "0", "latest": "$"}
RELEASED: Final = "pythia-released"


@attrs.frozen(kw_only=True)
class Group:
    """Whose entries are spoken of.

    Args:
        stream: the key of the stream.
        name: the consumer group.
        consumer: our own name in it, which nobody else has.
        lease_ms: milliseconds without renewal after which an entry may be taken by another consumer.
    """

    stream: str
    name: str
    consumer: str
    lease_ms: int

    def __str__(self) -> str:
        return f"group {self.name!r} of stream {self.stream!r}"


def is_gone(error: exceptions.ResponseError) -> bool:
    """Tell whether an answer means that the group or its stream is not there."""
    return str(error).startswith(GONE)


def value(answer: Any) -> Any:
    """Return an answer of a pipeline, or raise it if it is an error."""
    if isinstance(answer, Exception):
        raise answer
    return answer


async def make_group(wire: Wire, group: Group, start: str) -> bool:
    """Make the group, and the stream if need be; return False if it was there.

    Args:
        wire: a connection.
        group: which.
        start: ``earliest`` or ``latest``: what of the stream a new group is to read.

    Raises:
        ConfigError: if the key holds something that is no stream.
    """
    try:
        await wire.call("XGROUP", "CREATE", group.stream, group.name, STARTS[start], "MKSTREAM")
    except exceptions.ResponseError as error:
        if str(error).startswith("BUSYGROUP"):
            return False
        if isinstance(error, exceptions.OutOfMemoryError) and await _is_there(wire, group):
            return False
        if str(error).startswith("WRONGTYPE"):
            raise ConfigError(
                f"the key {group.stream!r} at {wire.address} holds something that is no stream"
            ) from None
        raise
    return True


async def _is_there(wire: Wire, group: Group) -> bool:
    """Tell whether the group exists: a server without memory refuses to make it, before it looks whether it is there.

    Whoever drains the stream has to get in all the same, or no memory would ever become free.
    """
    (answer,) = await wire.pipeline([("XPENDING", group.stream, group.name)])
    return not isinstance(answer, Exception)


async def remake_group(wire: Wire, group: Group) -> None:
    """Make a group again that is gone, from the beginning of the stream.

    ``$`` would lose what was added since it went; from the beginning, what is left of the stream is delivered again.
    """
    if await make_group(wire, group, "earliest"):
        log.error(
            "%s was gone (FLUSHALL, eviction, failover?) and is made again from the beginning: "
            "what the stream still holds is delivered again, what was lost with it is lost",
            group,
        )
