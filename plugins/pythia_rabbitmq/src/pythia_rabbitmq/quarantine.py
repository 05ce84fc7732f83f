"""The place beside a queue where suspects lie, one message of which is out at a time: so that the server's count is theirs alone.

A quorum queue counts the deliveries of all that was out when a consumer died, also of what was only prefetched. So its count
makes suspects and proves nothing. Those are put into a quorum queue of their own, `<queue>.suspects`, and asked for one by one.

Invariants:

- Q1. A suspect is confirmed by the server where it goes before it is acknowledged where it was.
- Q2. What is taken to be run alone is acknowledged after its work. If the process ends before that, the server counts one more,
  for that one. What was taken and is given back is written anew with the count that it had, and so is one that is only shown.
  What was out when a connection ended, and not the process, is counted by the server and not by the process; whoever else gets
  it next cannot tell, so the source asks for more deaths than others do (``solo_crashes``).
- Q3. One that cannot be put aside, since nothing can be written or its header is too large, runs like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import aiormq
import anyio
import attrs
from aiormq import spec

from pythia_core import SUSPECT_AFTER, Settlement, WriteError
from pythia_rabbitmq.connection import ConnectionLost, Line, Mismatch, NoAnswer, NotThere, ask, log
from pythia_rabbitmq.message import RabbitMQMessage
from pythia_rabbitmq.press import Entry
from pythia_rabbitmq.queues import declare, must_be_there
from pythia_rabbitmq.suspect import Aside, Spared, Suspect, can_travel, read, to_properties
from pythia_rabbitmq.writing import Writer

if TYPE_CHECKING:
    from pythia_rabbitmq.source import RabbitMQConsumer

LOOK: Final = 5.0  # seconds between looks at whether a suspect lies there that another process has put there
LOOK_AGAIN: Final = 0.5  # the same while some are known to
RETRY: Final = 30.0  # seconds until it is tried again to write there
REDELIVERED: Final = attrgetter("redelivered")
WRITE_SECONDS: Final = 5.0  # for a write there, during which nothing is settled


@attrs.frozen
class Held:
    """A suspect in the engine's hands.

    Args:
        suspect: the message.
        tag: its delivery, or None if it was only shown and lies where it lay.
    """

    suspect: Aside
    tag: int | None


class Quarantine:
    """Puts suspects aside, shows them, and hands them over one by one.

    What runs alone needs nothing else to be given back for its count's sake: so nothing is, which an old server would count.

    Args:
        source: whose queue it lies beside.
        ended: called with a reason when what is taken from it is ours no longer.
    """

    def __init__(self, source: RabbitMQConsumer, ended: Callable[[str], None]) -> None:
        self.place = source.suspects
        self._source = source
        self._ended = ended
        self._channel: aiormq.Channel | None = None
        self._holds_some = False  # as far as is known: then asking for one is worth a question
        self._held: dict[int, Held] = {}  # by position
        self._positions = 0
        self._over: set[str] = set()  # names of those that are done though they were only shown
        self._unwritten: list[tuple[int, Aside]] = []  # given back, and still to be written anew
        self._usable_at = inf  # by the loop's clock
        self._look_at = 0.0
        self._lock = anyio.Lock()  # messages are fetched while others are settled
        self._writer = Writer(
            source.address({}), "", queue=self.place, declare=None, durable=True, seconds=WRITE_SECONDS
        )

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self, line: Line) -> None:
        """Make the place if need be; if there is none that is said in the log, and suspects run like any other message."""
        source = self._source
        try:
            if source.declare:
                await declare(line, self.place, arguments=source.suspects_arguments)
            else:
                await must_be_there(line, self.place)
        except Mismatch as error:
            log.warning("queue %s is used as it is: %s", self.place, error)
        except (ConnectionLost, NotThere) as error:
            log.warning(
                "a message that kills its process cannot be found, for want of queue %s: %s",
                self.place,
                error,
            )
            return
        channel = self._channel = await line.channel()
        channel.closing.add_done_callback(
            lambda _: self._ended(f"the channel to queue {self.place} has ended")
        )
        self._usable_at = 0.0

    async def aclose(self) -> None:
        """Disconnect what writes, and remember what was out: it has ended no process, whatever the server counts."""
        self._source.survived.update(
            held.suspect.name for held in self._held.values() if held.tag is not None
        )
        self._held.clear()
        await self._writer.aclose()

    @property
    def usable(self) -> bool:
        """Whether suspects can be put there now, as far as is known."""
        return anyio.current_time() >= self._usable_at

    # -- in ------------------------------------------------------------------------------------------------------

    async def sift(self, messages: list[RabbitMQMessage]) -> tuple[list[RabbitMQMessage], Sequence[int]]:
        """Put the suspects among messages of the queue aside; return the others, and the tags of what is there by now."""
        found = [each for each in messages if each.redelivered and each.deliveries > SUSPECT_AFTER]
        suspects = [Suspect.of(each) for each in found if can_travel(each)]
        aside = {suspect.position for suspect in await self._put(suspects)}
        if aside:
            log.warning(
                "%d message(s) of %s, delivered over and over, wait to run alone", len(aside), self.place
            )
        spared = {each.position: Spared(each._announced, each._content, each.raw) for each in found}
        return [spared.get(each.position, each) for each in messages if each.position not in aside], sorted(
            aside
        )

    async def _put(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Write suspects there; return those of which that is confirmed."""
        if not suspects or not self.usable:
            return []
        errors: dict[int, WriteError] = {}
        entries = [
            Entry(index, None, self.place, to_properties(suspect), suspect.raw)
            for index, suspect in enumerate(suspects)
        ]
        result = await self._writer.write(entries, errors)
        if errors:
            self._usable_at = anyio.current_time() + RETRY
            log.warning("suspects cannot be put aside now: %s", next(iter(errors.values())))
        self._holds_some = self._holds_some or bool(result.confirmed)
        self._look_at = 0.0
        return [suspects[index] for index in result.confirmed]

    async def _write_anew(self, taken: Sequence[tuple[int, Aside]]) -> None:
        """Put back what was taken, with the count that it had; what cannot be is kept for another time."""
        confirmed = set(map(id, await self._put([suspect for _, suspect in taken])))
        self._unwritten = [each for each in taken if id(each[1]) not in confirmed]
        for tag, suspect in taken:
            if id(suspect) in confirmed:
                await self._ack(tag, suspect)

    # -- out -----------------------------------------------------------------------------------------------------

    async def show(self) -> Aside | None:
        """Return one that lies there, if it is time to look; it stays there, behind the others, and is not counted."""
        if anyio.current_time() < self._look_at or not self.usable:
            return None
        async with self._lock:
            shown = {held.suspect.name for held in self._held.values() if held.tag is None}
            taken = await self._get(than=len(shown))
            await self._write_anew([*self._unwritten, *([taken] if taken else ())])
            self._look_at = anyio.current_time() + (LOOK_AGAIN if taken else LOOK)
            if taken is None or taken in self._unwritten or taken[1].name in shown:
                return None
            return self._hold(taken[1], None)

    async def take(self) -> Aside | None:
        """Return one to be run alone, if some are known to lie there or it is time to look."""
        if not self._holds_some and (anyio.current_time() < self._look_at or not self.usable):
            return None
        async with self._lock:
            taken = await self._get()
            if taken is None:
                self._look_at = anyio.current_time() + LOOK
                return None
            return self._hold(taken[1], taken[0])

    def _hold(self, suspect: Aside, tag: int | None) -> Aside:
        self._positions += 1
        suspect.position = self._positions
        self._held[self._positions] = Held(suspect, tag)
        return suspect

    async def _get(self, *, than: int = 0) -> tuple[int, Aside] | None:
        """Take one that is not over, if more than so many lie there."""
        channel = self._opened()
        while await self._count() > than:
            answer = await ask(lambda: channel.basic_get(self.place), f"a message of {self.place}")
            if not isinstance(answer.delivery, spec.Basic.GetOk):
                return None
            tag, suspect = answer.delivery.delivery_tag or 0, read(answer)
            suspect.crashes = max(suspect.crashes - self._source.survived[suspect.name], 0)
            if suspect.name not in self._over:
                return tag, suspect
            self._over.discard(suspect.name)
            await self._ack(tag, suspect)
        return None

    async def _count(self) -> int:
        """Return how many lie there; 0 where nobody answers: then it has no leader, and is not asked for a while."""
        channel = self._opened()
        try:
            answer = await ask(lambda: channel.queue_declare(self.place, passive=True), f"queue {self.place}")
        except NoAnswer as error:
            log.warning("%s", error)
            self._usable_at = anyio.current_time() + RETRY
            self._holds_some = False
            return 0
        count = answer.message_count or 0
        self._holds_some = count > 0
        return count

    def _opened(self) -> aiormq.Channel:
        assert self._channel is not None
        return self._channel

    # -- settling ------------------------------------------------------------------------------------------------

    async def settle(self, settlement: Settlement) -> None:
        """Tell RabbitMQ what became of suspects."""
        async with self._lock:
            through = settlement.through or 0
            done = {
                *settlement.beyond,
                *settlement.rejected,
            }  # a dead letter is ours to write, and was written
            for position in [each for each in self._held if each <= through or each in done]:
                await self._finish(self._held[position])
                del self._held[position]
            back = [held for each in settlement.released if (held := self._held.pop(each, None)) is not None]
            taken = [(held.tag, held.suspect) for held in back if held.tag is not None]
            await self._write_anew([*self._unwritten, *taken])

    async def _finish(self, held: Held) -> None:
        if held.tag is None:
            self._over.add(held.suspect.name)  # a dead letter without being run: it is too large by now
        else:
            await self._ack(held.tag, held.suspect)

    async def _ack(self, tag: int, suspect: Aside) -> None:
        channel = self._opened()
        await ask(lambda: channel.basic_ack(tag), f"settling a message of {self.place}")
        self._source.survived.pop(
            suspect.name, None
        )  # it is done, or written anew with a count that is right
