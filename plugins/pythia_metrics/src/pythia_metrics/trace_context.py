"""W3C Trace Context in the headers of messages: read with suspicion, since anybody may have written it, and written.

It is read without OpenTelemetry first, because of most messages nothing more is wanted than whether they are recorded.
"""

# pyright: reportMissingImports=false
# OpenTelemetry is an extra: without it the rest of the plugin works, and can be checked.
from __future__ import annotations

import re
from collections.abc import Mapping
from random import getrandbits
from typing import Any, Final

import attrs
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from pythia_core import Headers, HeaderValue, Output

__all__ = ["PARENT", "STATE", "Parent", "dressed", "header", "read", "unrecorded"]

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
STATE_CHARACTERS = (
    4096  # more is dropped: the standard asks to hand on 512, and it goes into every message that follows
)

_PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)


@attrs.frozen
class Parent:
    """A valid ``traceparent``.

    Args:
        text: as it came.
        trace, span: the identities, in hexadecimal.
        sampled: True if the trace is recorded.
    """

    text: str
    trace: str
    span: str
    sampled: bool

    def context(self, headers: Headers) -> SpanContext:
        """Return it as OpenTelemetry has it, with the trace state of ``headers``."""
        flags = TraceFlags(TraceFlags.SAMPLED if self.sampled else TraceFlags.DEFAULT)
        state = text(headers.get(STATE))
        known = TraceState.from_header([state]) if state and len(state) <= STATE_CHARACTERS else TraceState()
        return SpanContext(int(self.trace, 16), int(self.span, 16), True, flags, known)


def read(value: HeaderValue) -> Parent | None:
    """Return a header's value as a parent; None if it is not one, by which the standard has a trace begin anew."""
    said = text(value)
    found = _PARENT.fullmatch(said) if len(said) >= 55 else None
    if found is None or (found[1] == "00" and found[5]):  # later versions may say more
        return None
    return Parent(said, found[2], found[3], bool(int(found[4], 16) & TraceFlags.SAMPLED))


def text(value: HeaderValue) -> str:
    """Return a header's value as text; what is not ASCII is none of ours."""
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value or ""


def header(context: SpanContext) -> list[tuple[str, str]]:
    """Return the headers that say a context; an invalid one, as there is without an SDK, is recorded by nobody."""
    if not context.is_valid:
        return unrecorded()
    pairs = [(PARENT, f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}")]
    state = context.trace_state.to_header()
    return [*pairs, (STATE, state)] if state else pairs


def unrecorded() -> list[tuple[str, str]]:
    """Return the headers of a trace that nobody records, so that nobody later begins one in its middle."""
    return [(PARENT, f"00-{getrandbits(128) or 1:032x}-{getrandbits(64) or 1:016x}-00")]


def dressed(output: Output, context: list[tuple[str, str]], incoming: Any) -> Output:
    """Return an output with this trace context, unless its user gave it one of his own.

    Args:
        output: as the handler made it.
        context: the headers.
        incoming: the header of the message, which is no will of his own where all of its headers are handed on.
    """
    given = output.headers or ()
    if isinstance(given, Headers):
        pairs = given.items_all()
    else:
        pairs = tuple(given.items() if isinstance(given, Mapping) else given)
    had = [value for name, value in pairs if name == PARENT]
    if had and text(had[-1]) != incoming:
        return output
    kept = [pair for pair in pairs if pair[0] not in (PARENT, STATE)]
    return attrs.evolve(output, headers=[*kept, *context])
