"""Notes: what a committed position cannot say, as a short text that the broker keeps beside it.

It stands apart because it is pure, and because its text outlives processes and versions. A position says "everything
before me is done"; a note adds what is done beyond it, how often messages beyond it have failed, and how often they were
begun without an end. So neither a slow message nor a parked one makes a stop repeat what was done behind it.

Invariants:

- T1. What is read is what was written, but for what lay too far off to fit.
- T2. Reading never raises. A text that is damaged, foreign or of another position is no note: it says nothing.
- T3. A text has at most :data:`LONGEST` characters. What lies furthest from the position is left out first; ``opened``
  and ``solo`` never are.

How the engine uses them is said in :mod:`~pythia_core.engine.noted_ledger`.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping
from typing import Any

import attrs

LONGEST = 4096  # characters; Kafka's default of offset.metadata.max.bytes, and ours are ASCII
REACH = 1 << 17  # offsets past the position that a note speaks of: 16 KiB of bits, while they are made

_TEXT = re.compile(
    r"1\.(\d{1,19})\.(\d{1,9})\.(?:(\d{1,19})x(\d{1,9}))?\.([\w-]*)\.([\w-]*)", re.ASCII
)  # the 1 is the version
_DIGITS = bytes.maketrans(b"\0\1", b"01")
_VALUES = bytes.maketrans(b"01", b"\0\1")


@attrs.frozen
class Note:
    """What stands beside a committed position.

    Args:
        base: the position; a note speaks of nothing before it.
        done: one byte for each offset from ``base`` on: 1 if it is done, else 0.
        attempts: how often the message at an offset has failed, where it has; more than 255 count as 255.
        opened: how many assignments in a row began at ``base`` and did not end in good order.
        solo: the offset of a message that was run alone because it may end its process, and how often it was.
    """

    base: int
    done: bytes = b""
    attempts: Mapping[int, int] = attrs.field(factory=dict[int, int])
    opened: int = 0
    solo: tuple[int, int] | None = None

    @property
    def end(self) -> int:
        """The offset past the last one that it speaks of."""
        return max(self.base + len(self.done), max(self.attempts, default=self.base - 1) + 1)


def write(note: Note) -> str:
    """Return a note as text."""
    reach = min(note.end - note.base, REACH)
    while len(text := _text(note, reach)) > LONGEST:
        reach //= 2
    return text


def bare(base: int, opened: int) -> str:
    """Return what :func:`write` makes of a note that speaks of no message: this is a tenth of the work."""
    return f"1.{base}.{opened}..."


def _text(note: Note, reach: int) -> str:
    solo = "{}x{}".format(*note.solo) if note.solo else ""
    done, counts = note.done[:reach].rstrip(b"\0"), _counts(note, reach)
    return f"1.{note.base}.{note.opened}.{solo}.{_pack(_bits(done))}.{_pack(counts)}"


def read(text: str | None, base: Any) -> Note | None:
    """Return what a text says of the position ``base``, or None if it says nothing of it."""
    found = _TEXT.fullmatch(text or "")
    if found is None or int(found[1]) != base:
        return None
    try:
        done, counts = _unbits(_unpack(found[5], REACH // 8)), _unpack(found[6], REACH)
    except (ValueError, zlib.error):
        return None
    return Note(
        int(found[1]),
        done,
        {base + offset: count for offset, count in enumerate(counts) if count},
        int(found[2]),
        (int(found[3]), int(found[4])) if found[3] else None,
    )


def _counts(note: Note, reach: int) -> bytes:
    """Return the attempts, one byte for each offset from the base on."""
    counts = bytearray(reach)
    for offset, count in note.attempts.items():
        if offset - note.base < reach:
            counts[offset - note.base] = min(count, 255)
    return bytes(counts.rstrip(b"\0"))


def _bits(flags: bytes) -> bytes:
    """Return bytes that are 0 or 1 as bits, the first one lowest: eight to a byte before they are compressed."""
    return int(flags[::-1].translate(_DIGITS) or b"0", 2).to_bytes((len(flags) + 7) // 8, "little")


def _unbits(bits: bytes) -> bytes:
    digits = format(int.from_bytes(bits, "little"), "b").encode()
    return digits[::-1].translate(_VALUES).rstrip(b"\0")


def _pack(data: bytes) -> str:
    if not data:
        return ""
    return base64.urlsafe_b64encode(zlib.compress(data, 9)).rstrip(b"=").decode()


def _unpack(text: str, longest: int) -> bytes:
    """Return the data of a text.

    Raises:
        ValueError, zlib.error: if it is damaged, which its check sum shows, or says more than any of ours.
    """
    if not text:
        return b""
    stream = zlib.decompressobj()
    data = stream.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), longest + 1)
    if not stream.eof or stream.unused_data or len(data) > longest:
        raise ValueError("this is no note of ours, or not all of it")
    return data
