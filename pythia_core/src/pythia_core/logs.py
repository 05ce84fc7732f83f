"""The one logging set-up: lines for people or JSON for machines, safe from what strangers write into messages.

A log line may contain keys, headers and error texts of strangers, so every control character is escaped, a text has an
end, and passwords in URLs are masked. Logging never raises: a closed pipe costs a line, not a message.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import IO, Any, Literal, TypeVar

import orjson

from pythia_core.secret import mask_url

__all__ = ["JsonFormatter", "SafeHandler", "TextFormatter", "configure", "context", "early", "escape"]

MESSAGE_LIMIT = 8_192  # characters; a longer line is somebody's payload
TRACE_LIMIT = 65_536
OWN = ("pythia", "pythia_core")  # names of Pythia's own loggers begin so
Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")
LEVELS = ("info", "debug", "warning", "error", "critical")
Choice = TypeVar("Choice", bound=str)

# C0 and C1 controls, line and paragraph separators, and what reorders text on a screen (CVE-2021-42574); lone
# surrogates cannot be written at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOURS: Mapping[int, str] = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_said: ContextVar[Mapping[str, Any]] = ContextVar("pythia log context")


@contextmanager
def context(**said: Any) -> Iterator[None]:
    """Add ``said`` to each line that is logged within the block, in this task and in threads that it waits for.

    What a line says itself by ``extra=`` goes before. Only the set-up made here adds it.
    """
    mark = _said.set({**_said.get({}), **said})
    try:
        yield
    finally:
        _said.reset(mark)


def escape(text: str, limit: int = MESSAGE_LIMIT) -> str:
    r"""Return text of strangers as one harmless line of at most about ``limit`` characters.

    Example:
        >>> escape("done\n2026-01-01 INFO forged")
        'done\\n2026-01-01 INFO forged'
    """
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text) - limit} more characters)"
    return _UNSAFE.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode(), text)


def _text(record: logging.LogRecord) -> str:
    """Return a record's message, escaped; one whose arguments do not fit its format is shown as it came."""
    try:
        text = record.getMessage()
    except Exception as error:
        text = f"{record.msg!s} {record.args!r} (bad log call: {type(error).__name__})"
    return escape(mask_url(text))


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as ``extra=`` and by the context; formatters run where the line is logged."""
    extra = {name: value for name, value in vars(record).items() if name not in _PLAIN}
    return {**extra, **{name: value for name, value in _said.get({}).items() if name not in extra}}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """Return the lines of traceback and stack, each escaped: an error's text may pretend to be a line of log."""
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    text = mask_url("\n".join(parts))
    return [escape(line) for line in text[:TRACE_LIMIT].splitlines()]


class TextFormatter(logging.Formatter):
    """One line for people; a traceback follows, each of its lines marked as such.

    Args:
        colour: True to colour levels.
        who: names the process where several write to one terminal, or is empty.
    """

    def __init__(self, *, colour: bool = False, who: str = "") -> None:
        super().__init__()
        self.colour = colour
        self.who = f"{escape(who)} " if who else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as ``2026-01-31 12:00:00.123 INFO  [who] logger: text key=value``."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        extra = "".join(
            f" {escape(name)}={escape(mask_url(str(value)))}" for name, value in _extra(record).items()
        )
        head = f"{moment}.{int(record.msecs):03} {self._level(record)} {self.who}{escape(record.name)}: "
        return "\n  | ".join([head + _text(record) + extra, *_trace(self, record)])

    def _level(self, record: logging.LogRecord) -> str:
        name = f"{record.levelname:<8}"
        colour = _COLOURS.get(record.levelno) if self.colour else None
        return f"{colour}{name}\x1b[0m" if colour else name


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines: time (UTC), level, logger, message, who, pid, what was given as extra, trace.

    Args:
        who: names the process, or is empty.
    """

    def __init__(self, *, who: str = "") -> None:
        super().__init__()
        self.who = who

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": escape(record.name),
            "message": _text(record),
            "pid": record.process,
        }
        if self.who:
            entry["who"] = escape(self.who)
        if trace := _trace(self, record):
            entry["trace"] = "\n".join(trace)
        for name, value in _extra(record).items():
            entry.setdefault(escape(name), _plain_value(value))
        return orjson.dumps(entry).decode()


def _plain_value(value: Any) -> Any:
    """Return numbers and truths as they are, anything else as harmless text."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return escape(mask_url(str(value)))


class SafeHandler(logging.StreamHandler[IO[str]]):
    """Writes to a stream, and drops what the stream does not take. ``dropped`` counts."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self.dropped = 0
        self.provisional = False  # True until it is known how to log

    def handleError(self, record: logging.LogRecord) -> None:
        """Count it: saying so would need the very stream that failed."""
        self.dropped += 1

    def flush(self) -> None:
        """Flush, if there is still anything to flush to."""
        try:
            super().flush()
        except (OSError, ValueError):
            self.dropped += 1

    def close(self) -> None:
        """Let go of what the stream has not taken: the interpreter would try again at its end, and exit with 120 for it."""
        super().close()
        try:
            self.stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())


_early: list[tuple[logging.Logger, str, tuple[object, ...]]] = []  # said before it was known how to log


def early(logger: logging.Logger, text: str, *args: object) -> None:
    """Log at INFO once it is known how: what finds out the settings has something to say before logs can follow them."""
    handlers = logging.getLogger().handlers
    if handlers and not any(isinstance(handler, SafeHandler) and handler.provisional for handler in handlers):
        logger.info(text, *args)
    else:
        _early.append((logger, text, args))


def _say_early() -> None:
    while _early:
        logger, text, args = _early.pop(0)
        logger.info(text, *args)


def configure(
    level: str | None = None,
    format: Format | None = None,
    *,
    who: str = "",
    stream: IO[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> SafeHandler | None:
    """Set up logging for this process, once; a second call replaces what the first set up.

    A program that has set up logging itself keeps what it has: then only the level of Pythia's own loggers is set.
    Without level and format it is set up for what goes wrong before they are known: as the environment says, if it does.

    Args:
        level: of all loggers, unless they have their own.
        format: ``text`` or ``json``.
        who: names this process in each line.
        stream: standard error unless given.
        environ: the environment variables; the process's own unless given.

    Returns:
        The handler, or None if the program's own stays.
    """
    environ = os.environ if environ is None else environ
    provisional = level is None and format is None
    shown = (level or _choice(environ, "PYTHIA_LOG_LEVEL", LEVELS)).upper()
    chosen: Format = format or _choice(environ, "PYTHIA_LOG_FORMAT", FORMATS)
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if isinstance(handler, SafeHandler)]
    made = None
    if len(ours) < len(root.handlers):
        for name in OWN:
            logging.getLogger(name).setLevel(shown)
    else:
        for handler in ours:
            root.removeHandler(handler)
        made = _handler(chosen, who, stream, environ)
        made.provisional = provisional
        root.addHandler(made)
        root.setLevel(shown)
    if not provisional:
        _say_early()
    return made


def _choice(environ: Mapping[str, str], variable: str, allowed: tuple[Choice, ...]) -> Choice:
    """Return what a variable says, or the first of what is allowed; what else it says is told when settings are read."""
    return next((choice for choice in allowed if choice == environ.get(variable, "").lower()), allowed[0])


def _handler(format: Format, who: str, stream: IO[str] | None, environ: Mapping[str, str]) -> SafeHandler:
    made = SafeHandler(stream if stream is not None else _standard_error())
    colour = _colourful(made.stream, environ)
    made.setFormatter(JsonFormatter(who=who) if format == "json" else TextFormatter(colour=colour, who=who))
    return made


def _standard_error() -> IO[str]:
    """Return standard error, or nowhere if the process was started without one."""
    return sys.stderr if sys.stderr is not None else open(os.devnull, "w", encoding="utf-8")


def _colourful(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Tell whether to colour: on a terminal that can, and not against NO_COLOR (no-color.org)."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except ValueError:
        return False
