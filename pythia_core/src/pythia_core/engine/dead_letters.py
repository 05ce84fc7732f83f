"""How a dead letter looks: the original body and headers, and beside them where it came from and why it died."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from pythia_core.contracts.message import HeaderValue, Message
from pythia_core.contracts.sink import Output, Sink
from pythia_core.engine.outcomes import Failure

PREFIX = "pythia-"
ERROR_TEXT = 1024  # characters kept of an error's text
REFERENCE = 4096  # bytes kept of a body that is too large to be written again
NAME_KEPT = 100  # bytes of a header's name, up to which a reference has the header: AMQP's clients cut off more than 128
VALUE_KEPT = 1024  # bytes of a header's value, or of a key, the same
HEADERS_KEPT = (
    16_384  # bytes of headers that it has in all: in AMQP they are one frame, of 128 KiB at the most
)


def _when(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _about(
    message: Message[Any], error: BaseException, source: str, group: str, worker: str
) -> Iterator[tuple[str, str]]:
    failure: Failure | None = getattr(message, "_failure", None)
    now = time.time()
    yield "source", source
    yield "partition", str(message.partition)
    yield "position", str(message.position)
    yield "id", message.id
    yield "key", key_text(message.key) or ""
    yield "timestamp", _when(message.timestamp)
    yield "group", group
    yield "error", f"{type(error).__module__}.{type(error).__qualname__}"
    yield "error-message", printable(str(error))[:ERROR_TEXT]
    yield "attempts", str(failure.attempts if failure else 0)
    yield "first-failure", _when(failure.first if failure else now)
    yield "last-failure", _when(failure.last if failure else now)
    yield "worker", worker


def printable(text: str) -> str:
    """Return text with control characters and lone surrogates escaped, so that it is safe in a header or a log."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def key_text(key: Any) -> str | None:
    """Return a key as text for a header; bytes that are no UTF-8 are escaped."""
    if key is None:
        return None
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)


def _short(headers: Iterable[tuple[str, HeaderValue]]) -> Iterator[tuple[str, HeaderValue]]:
    """Yield the headers that are short, as long as all of them together are."""
    rest = HEADERS_KEPT
    for name, value in headers:
        if _size(name) <= NAME_KEPT and _size(value) <= VALUE_KEPT and rest > 0:
            rest -= _size(name) + _size(value)
            yield name, value


def _size(text: str | bytes | None) -> int:
    return len(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text or b"")


def dead_letter(
    message: Message[Any],
    error: BaseException,
    sink: Sink,
    *,
    source: str,
    group: str,
    worker: str,
    reference: bool = False,
) -> Output:
    """Return the output that is this message's dead letter.

    Args:
        message: the message that died.
        error: why.
        sink: where it goes.
        source: name of what it was read from.
        group: the consumer group, or "".
        worker: name of the worker.
        reference: True to keep only the first 4,096 bytes of the body and its SHA-256, and of headers and key what is short,
            for a message too large to write.
    """
    headers: list[tuple[str, HeaderValue]] = [
        pair for pair in message.headers.items_all() if not pair[0].startswith(PREFIX)
    ]
    about = [(PREFIX + name, value) for name, value in _about(message, error, source, group, worker)]
    key = message.key if isinstance(message.key, (str, bytes, type(None))) else key_text(message.key)
    body = message.raw
    if reference:
        headers, about = list(_short(headers)), [(name, value[:VALUE_KEPT]) for name, value in about]
        about.append((PREFIX + "body-bytes", str(len(body))))
        about.append((PREFIX + "body-sha256", hashlib.sha256(body).hexdigest()))
        key, body = key if _size(key) <= VALUE_KEPT else None, body[:REFERENCE]
    headers += about
    return Output(sink, body, key=key, headers=headers)
