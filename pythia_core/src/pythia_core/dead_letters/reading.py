"""Reads a dead letter's headers, whoever wrote them, and tells which letters are wanted; pure, and trusts nothing.

It stands apart from :mod:`pythia_core.engine.dead_letters`, which writes them: what is read here may have been written
by an older version, or by a stranger.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import attrs

from pythia_core.contracts import HeaderValue, Message
from pythia_core.engine.dead_letters import PREFIX, key_text
from pythia_core.errors import ConfigError

__all__ = ["KEPT", "DeadLetter", "Selection", "original_headers", "parse_since"]

KEPT = PREFIX + "kept"
"""Says which replay wrote a letter anew, at the end, because it was not to be replayed."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
EARLIEST = datetime.min.replace(tzinfo=UTC)


@attrs.frozen(kw_only=True)
class DeadLetter:
    """What a dead letter says of itself; what it does not say is empty or None.

    Args:
        source, partition, position, id, key: where the message was, and as what.
        time: of its last failure.
        error, text: class and message of the last error.
        attempts: how often it was tried.
        worker, group: who tried.
        size: bytes of its body as it was.
        reference: True if only the beginning of the body was kept.
        kept: see :data:`KEPT`.
    """

    source: str
    partition: str
    position: str
    id: str
    key: str | None
    time: datetime | None
    error: str
    text: str
    attempts: int | None
    worker: str
    group: str
    size: int
    reference: bool
    kept: str = ""

    @classmethod
    def of(cls, message: Message[Any]) -> DeadLetter:
        """Read a message."""
        headers = message.headers

        def said(name: str) -> str:
            value = headers.get(PREFIX + name)
            return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value or ""

        return cls(
            source=said("source"),
            partition=said("partition"),
            position=said("position"),
            id=said("id"),
            key=key_text(message.key),
            time=_time(said("last-failure")),
            error=said("error"),
            text=said("error-message"),
            attempts=_number(said("attempts")),
            worker=said("worker"),
            group=said("group"),
            size=_number(said("body-bytes")) or message.size,
            reference=PREFIX + "body-sha256" in headers,
            kept=said("kept"),
        )

    @property
    def place(self) -> str:
        """Where the message was, in words."""
        return f"{self.source or 'unknown source'} {self.partition}:{self.position}"


def original_headers(message: Message[Any]) -> list[tuple[str, HeaderValue]]:
    """Return the headers that the message had before it died."""
    return [pair for pair in message.headers.items_all() if not pair[0].startswith(PREFIX)]


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


@attrs.frozen(kw_only=True)
class Selection:
    """Which dead letters are wanted; what is None selects all.

    Args:
        error: a pattern for the error's class, with or without its module: ``ValueError``, ``httpx.*``.
        key: the message's key.
        since: the earliest last failure.
    """

    error: str | None = None
    key: str | None = None
    since: datetime | None = None

    def wants(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is wanted."""
        return (
            (self.key is None or letter.key == self.key)
            and (self.since is None or (letter.time or EARLIEST) >= self.since)
            and (self.error is None or _is_named(letter.error, self.error))
        )


def _is_named(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[2], pattern)


def parse_since(text: str, now: datetime) -> datetime:
    """Return the moment that ``2h``, ``30m``, ``7d`` ago was, or that an ISO 8601 time names.

    Raises:
        ConfigError: if it is neither.
    """
    if found := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(seconds=int(found[1]) * UNITS[found[2]])
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is no time: say how long ago, such as 30m, 2h or 7d, or when, such as 2026-01-31T18:00"
        ) from None
