"""A delivery as a message, read only when somebody looks, and how outputs become what AMQP carries.

Text headers are AMQP strings, bytes are byte arrays, and a name that repeats is an array. What others put into headers
beside these (numbers, times, tables) is read as text. The key travels in the header ``x-pythia-key``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from struct import Struct
from typing import Any, Final

from aiormq import spec

from pythia_core import NO_HEADERS, UNDECODED, Headers, HeaderValue, Message, Output
from pythia_rabbitmq.tolerance import read_properties

KEY: Final = "x-pythia-key"
CONTENT_TYPE: Final = "content-type"
COUNT: Final = "x-delivery-count"  # of a quorum queue: deliveries before this one
PERSISTENT: Final = 2
DEATHS: Final = ("x-death", "x-first-death-", "x-last-death-")  # what the server says of a message's way
LONGEST_NAME: Final = 128  # bytes of a header's name; pamqp cuts off the rest

_tag = Struct(">Q").unpack_from


class RabbitMQMessage(Message[Any]):
    """A delivery.

    Args:
        announced: what the frame that announced it carries, from the consumer's tag on.
        content: what its header carries, from the properties' flags on.
        raw: its body.
    """

    __slots__ = (
        "_announced",
        "_content",
        "_delivery",
        "_properties",
    )  # the last two once somebody has looked

    partition = 0  # of every message, so that none has to hold it
    _delivery: spec.Basic.Deliver
    _properties: spec.Basic.Properties

    def __init__(self, announced: bytes, content: bytes, raw: bytes) -> None:
        # Not super().__init__: every name set here costs.
        self._announced = announced
        self._content = content
        (self.position,) = _tag(announced, 1 + announced[0])
        self.raw = raw
        self.size = len(raw)
        self._body = UNDECODED

    @property
    def properties(self) -> spec.Basic.Properties:
        """AMQP's properties, as the publisher set them."""
        try:
            return self._properties
        except AttributeError:
            self._properties = read_properties(self._content)
            return self._properties

    @property
    def delivery(self) -> spec.Basic.Deliver:
        """What the server says of this delivery."""
        try:
            return self._delivery
        except AttributeError:
            self._delivery = spec.Basic.Deliver()
            self._delivery.unmarshal(self._announced)
            return self._delivery

    @property
    def exchange(self) -> str:
        """The exchange it was published to; empty for the default one."""
        return self.delivery.exchange or ""

    @property
    def routing_key(self) -> str:
        """The routing key it was published with."""
        return self.delivery.routing_key or ""

    @property
    def redelivered(self) -> int:
        """0 if this is its first delivery; told by one bit, for which the rest need not be read."""
        return self._announced[1 + self._announced[0] + 8] & 1

    @property
    def deliveries(self) -> int:  # type: ignore[override]
        """How often it was delivered. Classic queues tell only the first from all others, which are 2 here."""
        if not self.redelivered:
            return 1
        counted = (self.properties.headers or {}).get(COUNT)
        if isinstance(counted, int):
            return counted + 1
        return 2

    @property
    def id(self) -> str:  # type: ignore[override]
        """The publisher's id of it; empty if it gave none."""
        return self.properties.message_id or ""

    @property
    def key(self) -> str | bytes | None:  # type: ignore[override]
        """What ordering goes by, or None."""
        key = (self.properties.headers or {}).get(KEY)
        return None if key is None else _text(key)

    @property
    def timestamp(self) -> float | None:  # type: ignore[override]
        """When the publisher says it was published, or None."""
        when = self.properties.timestamp
        return when.timestamp() if isinstance(when, datetime) else None

    @property
    def headers(self) -> Headers:  # type: ignore[override]
        """The headers, and the content type as one of them."""
        pairs = tuple(_pairs(self.properties))
        return Headers(pairs) if pairs else NO_HEADERS


def _pairs(properties: spec.Basic.Properties) -> Iterator[tuple[str, HeaderValue]]:
    if properties.content_type:
        yield CONTENT_TYPE, properties.content_type
    for name, value in (properties.headers or {}).items():
        if name == KEY:
            continue
        for each in value if isinstance(value, list) else [value]:
            yield name, None if each is None else _text(each)


def _text(value: Any) -> str | bytes:
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, default=lambda inner: str(_plain(inner)))
    return str(value)


def _plain(value: Any) -> str:
    text = _text(value)
    return text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text


def to_properties(output: Output, content_type: str | None) -> spec.Basic.Properties:
    """Return what goes beside an output's body.

    Args:
        output: what is written.
        content_type: what the codec made of the value, or None if it was bytes; a header of that name wins.
    """
    given = output.headers or ()
    headers: dict[str, Any] = {}
    repeated: dict[str, list[Any]] = {}
    for name, value in given.items() if isinstance(given, Mapping) else given:
        if name.lower() == CONTENT_TYPE and isinstance(value, str):
            content_type = value
            continue
        if name.startswith(DEATHS):
            continue  # handed on with the headers of another message, it is taken for this one's: RabbitMQ 3 drops cycles
        if len(name.encode()) > LONGEST_NAME:
            raise ValueError(
                f"a header's name of {len(name.encode())} bytes, at most {LONGEST_NAME} are taken"
            )
        carried = bytearray(value) if isinstance(value, bytes) else value
        if name in headers:
            repeated.setdefault(name, [headers[name]]).append(carried)
            headers[name] = repeated[name]
        else:
            headers[name] = carried
    if output.key is not None:
        headers[KEY] = bytearray(output.key) if isinstance(output.key, bytes) else output.key
    return spec.Basic.Properties(
        content_type=content_type or "",
        headers=headers,
        delivery_mode=PERSISTENT,
        timestamp=datetime.fromtimestamp(int(time.time()), UTC),
    )
