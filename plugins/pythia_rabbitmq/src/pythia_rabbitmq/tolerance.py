"""Read what a publisher may put beside a body and pamqp, below aiormq, cannot read; apart, since it changes a library.

Names and short texts that are no UTF-8, times beyond the calendar, tables that are nested too deep or of unknown types: an
error there ends the connection, the message goes back to its queue, comes again and ends the next connection, for ever.
So the readers of these types are replaced, in the whole process, by ones that read whatever comes.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from pamqp import decode
from pamqp.commands import Basic
from pamqp.header import ContentHeader

UNREADABLE: Final = "x-pythia-unreadable"
"""The name under which a table that cannot be read is handed over, as the bytes it came in."""

UNREADABLE_ERRORS: Final = (ValueError, TypeError, IndexError, KeyError, struct.error, RecursionError)
_NO_SIZE: Final = bytes(12)  # class, weight and size of the body, which stand before the properties


def read_anything() -> None:
    """Replace pamqp's readers of short texts, times and tables."""
    decode.METHODS |= {"shortstr": short_text, "timestamp": moment, "table": table}
    decode.TABLE_MAPPING |= {b"T": moment, b"F": table}


def read_properties(content: bytes) -> Basic.Properties:
    """Read the properties of a message; what cannot be read is handed over as the bytes it came in, among the headers."""
    header = ContentHeader()
    try:
        header.unmarshal(_NO_SIZE + content)
    except UNREADABLE_ERRORS:
        return Basic.Properties(headers={UNREADABLE: bytearray(content)})
    return header.properties


def short_text(value: bytes) -> tuple[int, str]:
    """Read a text of up to 255 bytes; what is no UTF-8 of it as its hexadecimal codes."""
    end = 1 + value[0]
    return end, _text(value[1:end])


def moment(value: bytes) -> tuple[int, Any]:
    """Read a time; None where there is no such one."""
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def table(value: bytes) -> tuple[int, dict[str, Any]]:
    """Read a table."""
    end = 4 + int.from_bytes(value[:4], "big")
    try:
        return end, _fields(value[4:end])
    except UNREADABLE_ERRORS:
        return end, {UNREADABLE: bytearray(value[4:end])}


def _fields(value: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    offset = 0
    while offset < len(value):
        end = offset + 1 + value[offset]
        if end > len(value):
            raise ValueError("a name is longer than its table")
        used, found = decode.embedded_value(value[end:])
        fields[_text(value[offset + 1 : end])] = found
        offset = end + used
    return fields


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
