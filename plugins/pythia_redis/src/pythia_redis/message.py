"""A stream entry as a message, and how outputs become entries: the fields on the wire.

``body``, ``key`` and ``content-type`` are what they say, ``h:<name>`` is a header, ``n:<name>`` a header without a value.
An entry that others wrote is a message too: with a field ``body`` or ``data`` that is the body and the other fields are
headers; without, the body is a JSON object of its fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pythia_core import JSON, NO_HEADERS, UNDECODED, Headers, HeaderValue, Message, Output

BODY: Final = b"body"
FOREIGN_BODY: Final = b"data"
KEY: Final = b"key"
CONTENT_TYPE: Final = "content-type"
HEADER: Final = b"h:"
NO_VALUE: Final = b"n:"
ALONE: Final = (b"body", b"")  # the fields of an entry that is a body and nothing else


class RedisMessage(Message[Any]):
    """An entry, read only as far as somebody looks.

    Args:
        entry: id and fields as the connection brought them: ``[b"1700000000000-0", [b"body", b"{}", ...]]``.
        deliveries: how often it has been delivered, this time included.
    """

    __slots__ = ("_fields",)

    partition = 0  # of every message, so that none has to hold it

    def __init__(self, entry: Sequence[Any], deliveries: int = 1) -> None:
        # Not super().__init__: at 200,000 messages a second every name set here is a percent.
        self.position = entry[0].decode()
        fields = entry[1]
        if len(fields) == 2 and fields[0] == b"body":
            self._fields: Sequence[bytes] = (
                ALONE  # nothing to keep: one object less for the collector to visit
            )
            self.raw = raw = fields[1]
        else:
            self._fields = fields
            self.raw = raw = fields[1] if fields[0] == b"body" else _foreign_body(fields)
        self.size = len(raw)
        self.deliveries = deliveries
        self._body = UNDECODED

    @property
    def id(self) -> str:  # type: ignore[override]
        """The id of the entry."""
        return self.position  # type: ignore[no-any-return]

    @property
    def key(self) -> str | bytes | None:  # type: ignore[override]
        """What ordering goes by, or None."""
        fields = self._fields
        names = fields[::2]
        return _text(fields[2 * names.index(KEY) + 1]) if KEY in names else None

    @property
    def headers(self) -> Headers:  # type: ignore[override]
        """The headers: text where the bytes are UTF-8."""
        pairs = tuple(_headers(self._fields))
        return Headers(pairs) if pairs else NO_HEADERS

    @property
    def timestamp(self) -> float | None:  # type: ignore[override]
        """The time in the id, which is that of the server unless the producer chose the id itself."""
        return int(self.position.partition("-")[0]) / 1000


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _name(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _foreign_body(fields: Sequence[bytes]) -> bytes:
    names = fields[::2]
    for name in (BODY, FOREIGN_BODY):
        if name in names:
            return fields[2 * names.index(name) + 1]
    return JSON.encode({_name(name): _name(value) for name, value in _pairs(fields)})


def _pairs(fields: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=True)


def _headers(fields: Sequence[bytes]) -> Iterator[tuple[str, HeaderValue]]:
    names = fields[::2]
    body = BODY if BODY in names else FOREIGN_BODY
    if body not in names:
        return  # all of it is the body
    for name, value in _pairs(fields):
        if name.startswith(HEADER):
            yield _name(name[2:]), _text(value)
        elif name.startswith(NO_VALUE):
            yield _name(name[2:]), None
        elif name not in (body, KEY):
            yield _name(name), _text(value)


def to_fields(output: Output, body: bytes, content_type: str | None) -> list[str | bytes]:
    """Return the fields of an output's entry, the body first.

    Args:
        output: what is written.
        body: its value as bytes.
        content_type: what the codec made of the value, or None if it was bytes; a header of that name wins.
    """
    fields: list[str | bytes] = [BODY, body]
    if output.key is not None:
        fields += (KEY, output.key)
    if not output.headers:
        return fields if content_type is None else [*fields, CONTENT_TYPE, content_type]
    headers = output.headers.items() if isinstance(output.headers, Mapping) else output.headers
    for name, value in headers:
        if name.lower() == CONTENT_TYPE and value is not None:
            content_type = None
            fields += (CONTENT_TYPE, value)
        else:
            fields += (
                (HEADER + name.encode(), value) if value is not None else (NO_VALUE + name.encode(), b"")
            )
    if content_type is not None:
        fields += (CONTENT_TYPE, content_type)
    return fields
