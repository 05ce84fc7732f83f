"""Codecs turn values into bytes and back, and every way in which a body can be bad into one error.

They stand apart because bodies come from strangers: whatever a parser raises at them (``RecursionError`` included, which
is no ``ValueError``) is a :class:`~pythia_core.errors.DecodeError`, whose text never contains the body. No codec is ever
chosen by a message unless it is in the worker's own list (:class:`ByContentType`).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import orjson

from pythia_core.errors import ConfigError, DecodeError, WriteError

if TYPE_CHECKING:
    from pythia_core.contracts.message import Message

__all__ = [
    "BYTES",
    "CODECS",
    "JSON",
    "STRICT_JSON",
    "TEXT",
    "ByContentType",
    "Codec",
    "Typed",
    "decode",
    "encode",
    "message_decoder",
    "structure",
]


class Codec(Protocol):
    """Anything with these four will do; both methods may raise what they like.

    Example:
        ::

            class Csv:
                name = "csv"
                content_type = "text/csv"

                def encode(self, value): return ",".join(value).encode()
                def decode(self, raw): return raw.decode().split(",")
    """

    @property
    def name(self) -> str:
        """What configuration and errors call it."""
        ...

    @property
    def content_type(self) -> str:
        """The media type of what it encodes."""
        ...

    def encode(self, value: Any, /) -> bytes:
        """Return the value as bytes."""
        ...

    def decode(self, raw: bytes, /) -> Any:
        """Return the value that the bytes stand for."""
        ...


@attrs.frozen
class _Codec:
    """A codec made of two functions."""

    name: str
    content_type: str
    encode: Callable[[Any], bytes] = attrs.field(repr=False)
    decode: Callable[[bytes], Any] = attrs.field(repr=False)


OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME
"""orjson 3.13 writes ``time(microsecond=10000)`` as ``00:00:00.10000``, which is a tenth of a second."""


def _plain(value: Any) -> Any:
    """Return what orjson does not know as what :func:`structure` takes back; enums, UUIDs and dataclasses it knows."""
    kind = type(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if attrs.has(kind):
        return {field.alias: getattr(value, field.name) for field in attrs.fields(kind)}
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    from pythia_core.structuring.models import as_plain  # late, as for structure()

    if (fields := as_plain(value)) is not None:
        return fields
    raise TypeError(f"{kind.__name__} is no JSON value")


def _to_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, _plain, OPTIONS)
    except (
        orjson.JSONEncodeError
    ):  # keys that are no text, perhaps, which to look for each time would cost something
        return orjson.dumps(value, _plain, OPTIONS | orjson.OPT_NON_STR_KEYS)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict; a name that comes twice means two readers may understand two things."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DecodeError("the body is not strict-json: a name occurs twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise DecodeError(f"the body is not strict-json: {name} is no number there")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise DecodeError("the body is not strict-json: a number in it is past what a double can hold")
    return number


def _strictly_from_json(raw: bytes) -> Any:
    value = json.loads(
        raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
    )
    orjson.dumps(value)  # refuses what orjson would not have read: lone surrogates, integers past 64 bits
    return value


def _from_text(raw: bytes) -> str:
    return raw.decode()


def _as_is(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    raise TypeError(f"{type(value).__name__} is not bytes")


JSON: Codec = _Codec("json", "application/json", _to_json, orjson.loads)
"""JSON by orjson, the default. It refuses NaN, bad UTF-8 and nesting past 1,024 levels. What it does not keep: of two
members with one name the last wins, and integers past 64 bits become floats."""

STRICT_JSON: Codec = _Codec("strict-json", "application/json", _to_json, _strictly_from_json)
"""JSON that refuses what :data:`JSON` would silently change: names that occur twice and integers past 64 bits. About
ten times slower."""

TEXT: Codec = _Codec("text", "text/plain; charset=utf-8", str.encode, _from_text)
"""UTF-8 text."""

BYTES: Codec = _Codec("bytes", "application/octet-stream", _as_is, bytes)
"""The body as it is."""

CODECS: Mapping[str, Codec] = {codec.name: codec for codec in (JSON, STRICT_JSON, TEXT, BYTES)}
"""The codecs by the name that configuration uses."""


def encode(value: Any, codec: Codec = JSON) -> bytes:
    """Return the value as a body; bytes are one already and pass as they are.

    Raises:
        WriteError: permanent, if the codec cannot encode it. The text names the type, never the value.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    try:
        return codec.encode(value)
    except Exception as error:
        text = f"a {type(value).__name__} cannot be encoded as {codec.name}: {_why(error)}"
        raise WriteError(text, permanent=True) from None


def decode(raw: bytes, codec: Codec = JSON) -> Any:
    """Return what the body stands for.

    Raises:
        DecodeError: whatever the codec raised. The text says what and where, and contains nothing of the body.
    """
    try:
        return codec.decode(raw)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(f"a body of {len(raw)} bytes is not {codec.name}: {_why(error)}") from None


def _why(error: Exception) -> str:
    """Say what a codec raised without repeating the value: only texts known not to quote it are passed on."""
    if isinstance(error, orjson.JSONEncodeError):
        return str(error)
    if isinstance(error, json.JSONDecodeError):  # orjson's is a subclass; both have the body in `doc`
        return f"{error.msg}, line {error.lineno} column {error.colno}"
    if isinstance(error, UnicodeError):
        return f"{type(error).__name__} at {getattr(error, 'start', '?')}"
    return type(error).__name__


def structure(body: Any, body_type: Any) -> Any:
    """Return the decoded body as an instance of ``body_type``.

    JSON's own types are taken at their word: the text "3" is no int, 3.7 is not cut to 3, true is not 1. Fields that a
    class does not have are ignored.

    Args:
        body: what a codec returned.
        body_type: an attrs class, a dataclass, a typed dictionary, a list or a dict or a union of these, dates, enumerations,
            or a struct of msgspec or a model of pydantic, which go by their own rules.

    Raises:
        DecodeError: naming the fields that do not fit, and not their values.
    """
    from pythia_core import (
        structuring,
    )  # cattrs takes 60 ms to import, which workers without types need not wait for

    return structuring.structure_body(body, body_type)


@attrs.frozen
class Typed:
    """A codec whose decoded bodies are instances of a type.

    Args:
        codec: decodes the bytes.
        body_type: what the result is structured into, see :func:`structure`.
    """

    codec: Codec
    body_type: Any

    @property
    def name(self) -> str:
        """The name of the codec within."""
        return self.codec.name

    @property
    def content_type(self) -> str:
        """The media type of the codec within."""
        return self.codec.content_type

    def encode(self, value: Any) -> bytes:
        """Encode by the codec within."""
        return self.codec.encode(value)

    def decode(self, raw: bytes) -> Any:
        """Decode by the codec within, then structure."""
        return structure(decode(raw, self.codec), self.body_type)


def _as_tuple(codecs: Iterable[Codec]) -> tuple[Codec, ...]:
    if found := tuple(codecs):
        return found
    raise ConfigError("ByContentType needs at least one codec to choose from, such as [JSON]")


@attrs.frozen
class ByContentType:
    """Lets a message's ``content-type`` header choose, but only from a list of the worker's own.

    Args:
        allowed: the codecs to choose from; the first encodes, and decodes messages without the header.

    Example:
        >>> ByContentType([JSON, TEXT]).choose("text/plain; charset=utf-8").name
        'text'
    """

    allowed: tuple[Codec, ...] = attrs.field(converter=_as_tuple)

    @property
    def name(self) -> str:
        """The names of all of them."""
        return "|".join(codec.name for codec in self.allowed)

    @property
    def content_type(self) -> str:
        """The media type of the first."""
        return self.allowed[0].content_type

    def encode(self, value: Any) -> bytes:
        """Encode by the first."""
        return self.allowed[0].encode(value)

    def decode(self, raw: bytes) -> Any:
        """Decode by the first, as a message without the header is."""
        return self.allowed[0].decode(raw)

    def choose(self, content_type: str | bytes | None) -> Codec:
        """Return the codec for a header's value.

        Raises:
            DecodeError: if none of the allowed ones has this media type.
        """
        wanted = _media_type(content_type)
        if not wanted:
            return self.allowed[0]
        for codec in self.allowed:
            if _media_type(codec.content_type) == wanted:
                return codec
        raise DecodeError(f"the content type {wanted[:100]!r} is not allowed here; allowed: {self.name}")


def _media_type(value: str | bytes | None) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value or ""
    return text.partition(";")[0].strip().lower()


def message_decoder(codec: Codec) -> Callable[[Message[Any]], Any]:
    """Return the function that decodes a message's body, made once so that a message pays for no choice it has not.

    Raises:
        DecodeError: (the function) for every body that the codec does not take.
    """
    if isinstance(codec, Typed) and isinstance(codec.codec, ByContentType):
        read, kind = message_decoder(codec.codec), codec.body_type
        return lambda message: structure(read(message), kind)
    if isinstance(codec, ByContentType):
        return lambda message: decode(message.raw, codec.choose(message.headers.get("content-type")))
    take = codec.decode

    def decode_message(message: Message[Any]) -> Any:
        try:
            return take(message.raw)  # not by decode(): a call for each message is worth saving
        except Exception:
            return decode(message.raw, codec)  # which raises again, as what it should be

    return decode_message
