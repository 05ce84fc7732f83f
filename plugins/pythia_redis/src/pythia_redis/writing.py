"""How a batch of entries is written: pipelined, in order, each one accounted for, and never sent twice."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final

import attrs
from redis import exceptions

from pythia_core import WriteError
from pythia_redis.connection import SECONDS, ConnectionLost, Wire, pack

MOST_ENTRIES: Final = 1000  # of one round trip
MOST_BYTES: Final = 8 << 20
SLOWEST: Final = 1_000_000  # bytes a second that a deadline allows for


@attrs.frozen
class Entry:
    """An entry to be written.

    Args:
        index: of its output.
        key: of its output.
        packed: the whole command as Redis reads it.
    """

    index: int
    key: Hashable
    packed: bytes


@attrs.frozen
class Batch:
    """Writes entries.

    Args:
        wire: the connection.
        replicas: how many replicas have to have them.
        replica_ms: how long they may take.
    """

    wire: Wire
    replicas: int = 0
    replica_ms: int = 1000

    async def write(self, entries: Sequence[Entry], errors: dict[int, WriteError]) -> list[int]:
        """Write entries; return the indexes that were confirmed, and enter the others into ``errors``."""
        confirmed: list[int] = []
        failed = False
        for chunk in chunks(entries):
            outcomes = [_skipped()] * len(chunk) if failed else await self._write(chunk)
            failed = failed or any(outcomes)
            for entry, error in zip(chunk, outcomes, strict=True):
                if error is None:
                    confirmed.append(entry.index)
                else:
                    errors[entry.index] = error
        return confirmed

    async def _write(self, chunk: Sequence[Entry]) -> list[WriteError | None]:
        """Write a chunk and return an error or None for each entry."""
        keys = [entry.key for entry in chunk if entry.key is not None]
        packed = [entry.packed for entry in chunk]
        if len(set(keys)) == len(keys):
            return await self._exchange(packed)
        return _of_transaction(await self._exchange([pack(("MULTI",)), *packed, pack(("EXEC",))]))

    async def _exchange(self, packed: list[bytes]) -> list[WriteError | None]:
        """Send commands and return, for each, an error or None."""
        answers: list[Any] = []
        seconds = SECONDS + sum(map(len, packed)) / SLOWEST
        try:
            if self.replicas:
                wait = pack(("WAIT", self.replicas, self.replica_ms))
                await self.wire.exchange([*packed, wait], answers, seconds=seconds + self.replica_ms / 1000)
            else:
                await self.wire.exchange(packed, answers, seconds=seconds)
        except ConnectionLost as error:
            return self._cut(answers, len(packed), WriteError(f"perhaps written, perhaps not: {error}"))
        outcomes = [_error(answer) for answer in answers[: len(packed)]]
        return self._replicated(outcomes, answers[-1]) if self.replicas else outcomes

    def _cut(self, answers: list[Any], expected: int, lost: WriteError) -> list[WriteError | None]:
        """Return the outcomes where the connection was lost after so many answers."""
        outcomes = [_error(answer) for answer in answers[:expected]]
        if self.replicas:  # that they have them was not heard
            outcomes = [outcome or lost for outcome in outcomes]
        return [*outcomes, *[lost] * (expected - len(outcomes))]

    def _replicated(self, outcomes: list[WriteError | None], answer: Any) -> list[WriteError | None]:
        if isinstance(answer, int) and answer >= self.replicas:
            return outcomes
        late = WriteError(
            f"written, but not on {self.replicas} replica(s) within {self.replica_ms} ms: {answer}"
        )
        return [outcome or late for outcome in outcomes]


def chunks(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield entries in portions that are sent at once."""
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        if chunk and (len(chunk) >= MOST_ENTRIES or size + len(entry.packed) > MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry.packed)
    if chunk:
        yield chunk


def _skipped() -> WriteError | None:
    return WriteError("not written, since an earlier one failed")


def _error(answer: Any) -> WriteError | None:
    if isinstance(answer, list):  # of a transaction: what was refused only as it was carried out
        answer = next((one for one in answer if isinstance(one, Exception)), None)
    return WriteError(f"Redis refused it: {answer}") if isinstance(answer, Exception) else None


def _of_transaction(outcomes: list[WriteError | None]) -> list[WriteError | None]:
    """Return the outcome of each entry of a transaction: if one was refused, none was written."""
    _, *queued, executed = outcomes
    if executed is None and not any(queued):
        return queued
    other = executed or WriteError("not written, since an entry beside it was refused")
    return [outcome or other for outcome in queued]


async def check_writable(wire: Wire, stream: str) -> None:
    """Raise WriteError if nothing can be written to a stream now.

    XADD with the id 0-0 is always refused, but permission, memory and role are looked at before: it asks all of that
    and writes nothing.
    """
    added, kind = await wire.pipeline([("XADD", stream, "0-0", "check", ""), ("TYPE", stream)])
    if not isinstance(added, exceptions.ResponseError) or "0-0" not in str(added):
        raise WriteError(f"nothing can be written to {stream!r} at {wire.address}: {added}")
    if not isinstance(kind, Exception) and kind not in (b"none", b"stream"):
        raise WriteError(
            f"nothing can be written to {stream!r} at {wire.address}: it is a {kind.decode()}, no stream"
        )
