"""How a dead letter looks: the original body and headers, and beside them where it came from and why it died."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pythia_core.contracts.message import HeaderValue, Message
from pythia_core.contracts.sink import Output, Sink
from pythia_core.engine.outcomes import Failure

PREFIX = "pythia-"
ERROR_TEXT = 1024  # characters kept of an error's text
REFERENCE = 4096  # bytes kept of a body that is too large to be written again


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
        reference: True to keep only the first 4,096 bytes of the body and its SHA-256, for a body too large to write.
    """
    headers: list[tuple[str, HeaderValue]] = [
        pair for pair in message.headers.items_all() if not pair[0].startswith(PREFIX)
    ]
    headers += [(PREFIX + name, value) for name, value in _about(message, error, source, group, worker)]
    body = message.raw
    if reference:
        headers.append((PREFIX + "body-bytes", str(len(body))))
        headers.append((PREFIX + "body-sha256", hashlib.sha256(body).hexdigest()))
        body = body[:REFERENCE]
    key = message.key if isinstance(message.key, (str, bytes, type(None))) else key_text(message.key)
    return Output(sink, body, key=key, headers=headers)
