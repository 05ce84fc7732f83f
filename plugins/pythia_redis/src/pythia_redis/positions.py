"""How far a group has read a stream: shown as Redis tells it, and moved by ``XGROUP SETID`` while nobody reads.

A position is the group's last delivered id, as ``XINFO GROUPS`` shows it: what comes behind it is read next.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Final, Self

from redis import exceptions

from pythia_core import ConfigError, Mark, Move, Positions, Seek, Standing
from pythia_redis.connection import Wire
from pythia_redis.group import RELEASED, Group, value
from pythia_redis.inspector import EARLIEST_CLOCK, MOST_COUNTED, ask_backlog
from pythia_redis.options import Address
from pythia_redis.scripts import MOVE, SEEK

ID: Final = re.compile(r"\d{1,20}(-\d{1,20})?")


class RedisPositions(Positions):
    """Shows and moves the last delivered id of a group. Its only partition is called as the stream.

    Args:
        address: the server.
        group: which; a consumer that Redis has not heard of for its lease does not read.
        start_from: what a group that is not there yet will read.
        delete_settled: whether entries that are done are gone.
    """

    def __init__(self, address: Address, group: Group, *, start_from: str, delete_settled: bool) -> None:
        self._wire = Wire(address, name=f"{group.stream}/positions")
        self._group = group
        self._start_from = start_from
        self._delete_settled = delete_settled

    async def standing(self) -> Standing:
        """See :meth:`pythia_core.Positions.standing`."""
        stream, name = self._group.stream, self._group.name
        asked = [("XINFO", what, stream) for what in ("STREAM", "GROUPS")]
        info, groups, consumers = await self._wire.pipeline([*asked, ("XINFO", "CONSUMERS", stream, name)])
        fields = _fields(self._there(info))
        group = next((found for found in map(_fields, value(groups)) if found["name"] == name.encode()), None)
        left = await ask_backlog(self._wire, stream, name, self._start_from)
        first = fields["first-entry"]
        mark = Mark(
            position=None if group is None else group["last-delivered-id"].decode(),
            first=first[0].decode() if first else None,
            end=fields["last-generated-id"].decode(),
            waiting=left.waiting,
            at_least=left.at_least,
            pending=left.in_flight,
            oldest=await self._oldest(group),
        )
        members = [] if group is None else self._members(value(consumers))
        return Standing({stream: mark}, members, self._notes(group))

    def _there(self, answer: Any) -> Any:
        """Return what was answered of the stream.

        Raises:
            ConfigError: if it is not there.
        """
        if isinstance(answer, exceptions.ResponseError):
            raise ConfigError(
                f"there is no stream {self._group.stream!r} at Redis {self._wire.address}: {answer}"
            )
        return value(answer)

    async def _oldest(self, group: Mapping[str, Any] | None) -> float | None:
        """Return the time of the first entry that waits, by its id."""
        after = "-" if group is None else f"({group['last-delivered-id'].decode()}"
        entries = await self._wire.call("XRANGE", self._group.stream, after, "+", "COUNT", 1)
        seconds = int(entries[0][0].partition(b"-")[0]) / 1000 if entries else 0.0
        return seconds if seconds > EARLIEST_CLOCK else None

    def _members(self, consumers: list[Any]) -> list[str]:
        found = [_fields(consumer) for consumer in consumers]
        return [
            f"{one['name'].decode()}, heard of {one['idle'] / 1000:.1f} s ago, with {one['pending']:,} pending"
            for one in found
            if one["name"] != RELEASED.encode() and one["idle"] < self._group.lease_ms
        ]

    def _notes(self, group: Mapping[str, Any] | None) -> list[str]:
        if group is None:
            return [f"the group is not there yet: it begins by start_from, {self._start_from!r}"]
        notes = []
        if (read := group.get("entries-read")) is not None:
            notes.append(f"Redis has counted {read:,} entries as read")
        if group["pending"]:
            notes.append(
                f"{group['pending']:,} entries are pending: wherever the position goes they stay so, and are delivered again"
            )
        if self._delete_settled:
            notes.append("what was done is removed (delete_settled), so only what is left can be read again")
        return notes

    async def find(self, seek: Seek, partitions: Collection[str]) -> Mapping[str, Move]:
        """See :meth:`pythia_core.Positions.find`. Ids of entries are times, which is how a time is found.

        Raises:
            ConfigError: if a position is no id or lies behind the last, or more than 10,000 entries are to be counted off.
        """
        call = (self._group.name, self._start_from, seek.kind, self._argument(seek), MOST_COUNTED)
        (answer,) = await self._wire.run(SEEK, self._group.stream, call)
        to, last, again = self._there(answer)
        if _order(to) > _order(last):
            raise ConfigError(
                f"the stream {self._group.stream!r} has got to {last.decode()}, so the group cannot be at {to.decode()}"
            )
        return {self._group.stream: Move(to.decode(), again, at_least=abs(again) >= MOST_COUNTED)}

    def _argument(self, seek: Seek) -> str | int:
        if seek.kind == "time":
            return int(seek.seconds * 1000)
        if seek.kind == "by":
            if abs(seek.messages) > MOST_COUNTED:
                raise ConfigError(
                    f"{seek.messages:,} entries are too many for Redis to count off: at most {MOST_COUNTED:,}; "
                    "say a time or an id"
                )
            return seek.messages
        if seek.kind == "position":
            if not ID.fullmatch(seek.position):
                raise ConfigError(
                    f"{seek.position!r} is no id of an entry: 1700000000000-0 is one, as XRANGE shows them; earliest and "
                    "latest are understood too"
                )
            return seek.position if "-" in seek.position else f"{seek.position}-0"
        return ""

    async def move(self, to: Mapping[str, str], *, force: bool = False) -> None:
        """See :meth:`pythia_core.Positions.move`. Pending entries stay pending, so none of them is lost."""
        for position in to.values():
            call = (self._group.name, position, self._group.lease_ms, RELEASED, "force" if force else "")
            (answer,) = await self._wire.run(MOVE, self._group.stream, call)
            if reading := self._there(answer):
                names = "\n  ".join(name.decode() for name in reading)
                raise ConfigError(
                    f"{self._group} is being read, and is left where it is: stop who reads, or say --force, which also "
                    f"moves it under those that are gone for less than {self._group.lease_ms / 1000:g} s:\n  {names}"
                )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.aclose()


def _fields(flat: list[Any]) -> dict[str, Any]:
    return {name.decode(): found for name, found in zip(flat[::2], flat[1::2], strict=True)}


def _order(position: bytes) -> tuple[int, int]:
    time, _, number = position.partition(b"-")
    return int(time), int(number)
