"""The engine's core against a naive model, which keeps plain lists of what was delivered and what became of it.

Each check names the invariant it is about by the letter that the module's docstring gives it.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pythia_core.engine.notes as notes_module
import pythia_core.engine.offset_ledger as offset_module
import pythia_core.engine.pool as pool_module
import pythia_core.engine.token_ledger as token_module
from pythia_core.contracts import Assignment, Capabilities, Chunk, Message, Output, Refused, Settlement
from pythia_core.engine.ledger import DONE, OPEN, REJECTED, RELEASED, SETTLED, Ledger
from pythia_core.engine.noted_ledger import NotedLedger
from pythia_core.engine.notes import Note, read, write
from pythia_core.engine.offset_ledger import OffsetLedger
from pythia_core.engine.pool import Slot
from pythia_core.engine.publisher import Job, Pending
from pythia_core.errors import Reject, Skip, WriteError
from pythia_core.settings import RetryPolicy, Settings
from tests.engine.byhand import HandEngine, Pause

PARTITIONS = (0, 1)
WORKERS = 3
ATTEMPTS = 3
KEYS = st.sampled_from([None, "a", "b", "c"])

LONGEST = notes_module.LONGEST
SHORT = 40  # characters of a note: too few for all that it has to say

# Bounds that a short test would never reach.
SHORTENED = {
    (module, name): getattr(module, name)
    for module, name in ((offset_module, "COMPACT"), (token_module, "SPARSE"), (pool_module, "STREAK"))
}


@attrs.define(eq=False)
class Record:
    """One message as the broker has it."""

    uid: int
    key: str | None
    offset: int
    done: bool = False  # worked off by somebody: by us under a live ledger, or elsewhere
    settled: bool = False


@attrs.define(eq=False)
class Delivery:
    """One delivery of a record to the engine, as the model sees it."""

    record: Record
    message: Message[Any]
    ledger: Ledger
    lane: Any
    state: str = "queued"  # running, publishing, parked, held, ended
    outcome: int | None = None  # what the ledger is to say of it
    fenced: bool = False  # what becomes of it changes nothing any more
    gone: bool = False  # the broker has given it to somebody else
    counted: bool = True  # it was taken in, and counts as in flight until it ends
    writing: str = ""  # output, dead letter or reference
    attempts: int = 0

    def end(self, outcome: int | None) -> None:
        """L4: it ends once, with one outcome."""
        assert self.state != "ended", "it has ended before"
        assert self.outcome is None, "it has an outcome already"
        self.state = "ended"
        if not self.fenced:
            self.outcome = outcome
            if outcome in (DONE, REJECTED):
                self.record.done = True


class Core(RuleBasedStateMachine):
    """Deliver, run, fail, write, settle, revoke and lose, in any order."""

    @initialize(
        ack=st.sampled_from(["cumulative", "noted", "noted", "individual", "both"]),
        order=st.sampled_from(["key", "key", "partition", "none"]),
        dead_letters=st.booleans(),
        longest=st.sampled_from([LONGEST, LONGEST, SHORT]),
        leases=st.sampled_from([True, True, False]),
    )
    def start(
        self, ack: Any, order: Any, dead_letters: bool, longest: int = LONGEST, leases: bool = True
    ) -> None:
        """Build an engine, and assign it all partitions."""
        self.noted = ack == "noted"
        self.ack: Any = "cumulative" if self.noted else ack
        self.order, self.dead_letters = order, dead_letters
        self.leases = leases and self.tokens
        for module, name in SHORTENED:
            setattr(module, name, 2)
        notes_module.LONGEST = longest
        logging.disable()
        self.ids = itertools.count(1)
        self.uids = itertools.count(1)
        self.log: dict[int, list[Record]] = {p: [] for p in PARTITIONS}
        self.end_of_log = dict.fromkeys(PARTITIONS, 0)
        self.position = dict.fromkeys(PARTITIONS, 0)  # cumulative: where the owner reads on
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.notes: dict[int, str | None] = dict.fromkeys(PARTITIONS)  # beside the committed positions
        self.known: dict[Message[Any], Delivery] = {}
        self.begin()

    def begin(self) -> None:
        """Begin a process: an engine, to which all partitions are assigned."""
        self.hand = self.make()
        self.engine, self.session = self.hand.engine, self.hand.session
        self.stats = self.engine.stats
        self.out: dict[Ledger, list[Delivery]] = {}  # by ledger, what it is to hold, in order
        self.found: dict[
            Ledger, Note
        ] = {}  # what the note found at the assignment says, if it is to be believed
        self.ours: dict[int, list[str | None]] = {
            p: [] for p in PARTITIONS
        }  # notes that we know we may have left
        self.heard: dict[Ledger, Any] = {}  # what the broker is known to have, or None
        self.lows: dict[Ledger, int] = {}
        self.unheard: dict[Ledger, Settlement] = {}
        self.offered: dict[Ledger, list[Delivery]] = {}
        self.told: Sequence[Settlement] = ()
        self.answer: list[Refused] | None = None  # of a broker that has done what it was told, on its way
        self.owners: dict[int, Ledger] = {}  # as the broker sees it
        for partition in PARTITIONS:
            self.give(partition)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ack=self.ack, lease_seconds=30.0 if self.leases else None, notes=self.noted)

    def make(self) -> HandEngine:
        """Return the engine that is tried."""
        return HandEngine(
            self.capabilities,
            Settings(order=self.order, retry=RetryPolicy(attempts=ATTEMPTS), max_concurrent_tasks=WORKERS),
            self.handle,
            dead_letters=self.dead_letters,
        )

    def teardown(self) -> None:
        """L1: once all faults are over, every message is worked off and settled: nothing was forgotten on the way."""
        try:
            if hasattr(self, "hand"):
                self.work_everything_off()
        finally:
            if hasattr(self, "hand"):
                self.hand.pool.close()
            for (module, name), value in SHORTENED.items():
                setattr(module, name, value)
            notes_module.LONGEST = LONGEST
            logging.disable(logging.NOTSET)

    # -- the broker ----------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> bool:
        return bool(self.ack != "cumulative")

    def give(self, partition: int) -> None:
        """Assign a partition to the engine."""
        self.position[partition] = self.committed[partition]
        position, note = (None, None) if self.tokens else (self.committed[partition], self.notes[partition])
        self.session.assigned({partition: Assignment(next(self.ids), position, note)})
        ledger = self.session.ledgers[partition]
        self.found[ledger] = found = read(note if self.noted else None, position) or Note(position or 0)
        if found.opened and note in self.ours[partition]:
            self.found[ledger] = attrs.evolve(found, opened=found.opened - 1)
        self.ours[partition] = [note] if note in self.ours[partition] else []
        self.heard[ledger] = position, note if self.noted else None
        self.owners[partition] = ledger
        self.out[ledger] = []

    def live(self, partition: int) -> Ledger | None:
        return self.session.ledgers.get(partition)

    def live_ledgers(self) -> list[Ledger]:
        return list(self.session.ledgers.values())

    def waiting(self, partition: int) -> list[Record]:
        """Return what the broker may deliver next."""
        if not self.tokens:
            return [r for r in self.log[partition] if r.offset >= self.position[partition]]
        ledger = self.owners.get(partition)
        out = {d.record.uid for d in self.out.get(ledger, ()) if not d.gone} if ledger else set()
        gone = {d.record.uid for d in self.known.values() if d.gone}
        return [r for r in self.log[partition] if not r.settled and r.uid not in out | gone]

    @rule(
        partition=st.sampled_from(PARTITIONS),
        new=st.lists(st.tuples(KEYS, st.integers(0, 2)), max_size=5),
        most=st.sampled_from([None, None, 1, 2]),
    )
    def fetch(self, partition: int, new: list[tuple[str | None, int]], most: int | None = None) -> None:
        """Messages come, not always all: those to be delivered again, and new ones, with gaps between positions."""
        for key, gap in new:
            offset = self.end_of_log[partition] + gap
            self.log[partition].append(Record(next(self.uids), key, offset))
            self.end_of_log[partition] = offset + 1
        self.deliver(partition, None, most)

    @rule(partition=st.sampled_from(PARTITIONS), gap=st.integers(1, 3))
    def move(self, partition: int, gap: int) -> None:
        """The position moves without records, as over transaction markers."""
        self.end_of_log[partition] += gap
        self.deliver(partition, self.end_of_log[partition])

    def deliver(self, partition: int, position: int | None, most: int | None = None) -> None:
        ledger = self.live(partition)
        records = self.waiting(partition)[:most]
        messages = [
            Message[Any](
                b"x" * (record.uid % 3),
                key=record.key,
                partition=partition,
                position=f"{record.uid}.{next(self.ids)}" if self.tokens else record.offset,
            )
            for record in records
        ]
        if not self.tokens and position is None and messages:
            position = messages[-1].position + 1
        self.session.admission.admit([Chunk(partition, messages, None if self.tokens else position)])
        if ledger is None:
            return
        self.position[partition] = self.position[partition] if position is None else position
        for record, message in zip(records, messages, strict=True):
            lane = {"key": record.key, "partition": True, "none": None}[self.order]
            delivery = self.known[message] = Delivery(record, message, ledger, lane)
            self.out[ledger].append(delivery)
            found = self.found[ledger]
            if self.noted and record.offset in done_in(found):
                delivery.end(DONE)
                continue
            delivery.attempts = found.attempts.get(record.offset, 0) if self.noted else 0
            if ledger.draining:
                delivery.counted = False
                delivery.end(RELEASED if self.tokens else None)

    # -- running -------------------------------------------------------------------------------------------------

    async def handle(self, message: Message[Any]) -> object:
        """Run as the handler: the model notes the start, and the end just before the engine sees it."""
        delivery = self.known[message]
        self.check_start(delivery)
        assert message.attempt == delivery.attempts + 1, "A2: all attempts count"
        delivery.state = "running"
        try:
            result = await Pause(message)
        except Exception as error:
            self.failed(delivery, error)
            raise
        if delivery.fenced or result is None:
            delivery.end(DONE)
        else:
            delivery.state, delivery.writing = "publishing", "output"
        return result

    def check_start(self, delivery: Delivery) -> None:
        """S1, S2: nothing else of its key is started, and everything before it has ended."""
        assert delivery.state == "queued" and not delivery.fenced, f"{delivery} must not start"
        for other in self.known.values():
            if delivery.lane is None or other is delivery or other.state == "ended":
                continue
            same = (other.message.partition, other.lane) == (delivery.message.partition, delivery.lane)
            if same:
                assert other.state == "queued", f"S1: {other} is started too"
                assert self.later(delivery, other), f"S2: {other} comes first"

    def later(self, one: Delivery, other: Delivery) -> bool:
        order = self.out[one.ledger]
        return bool(order.index(other) > order.index(one))

    def failed(self, delivery: Delivery, error: BaseException) -> None:
        """Say what the engine is to make of a failure."""
        if delivery.fenced:
            delivery.end(None)
        elif isinstance(error, Skip):
            delivery.end(DONE)
        else:
            delivery.attempts += 1
            if isinstance(error, Reject) or delivery.attempts >= ATTEMPTS:
                self.buried(delivery)
            elif delivery.ledger.draining:
                delivery.end(RELEASED if self.tokens else None)
            else:
                delivery.state = "parked"

    def buried(self, delivery: Delivery) -> None:
        if self.dead_letters:
            delivery.state, delivery.writing = "publishing", "dead letter"
        else:
            self.stuck(delivery)

    def stuck(self, delivery: Delivery) -> None:
        if delivery.ledger.draining:
            delivery.end(RELEASED if self.tokens else None)
        else:
            delivery.state = "held"

    def running(self) -> list[Slot]:
        return sorted(self.hand.pool.running, key=lambda slot: self.number(slot.message))

    def number(self, message: Message[Any] | None) -> int:
        """Return a message's place among all that were delivered, so that a run can be repeated exactly."""
        return list(self.known).index(message) if message is not None else -1

    @precondition(lambda self: self.engine.scheduler.ready and self.hand.pool.sleeping)
    @rule()
    def wake(self) -> None:
        """A worker wakes up and takes what is ready."""
        self.hand.pool.go(self.hand.pool.sleeping[0])

    @precondition(lambda self: self.hand.pool.running)
    @rule(data=st.data(), result=st.sampled_from([None, None, b"output"]))
    def finish(self, data: st.DataObject, result: bytes | None) -> None:
        """A handler returns."""
        self.hand.pool.go(data.draw(st.sampled_from(self.running())), result)

    @precondition(lambda self: self.hand.pool.running)
    @rule(data=st.data(), error=st.sampled_from([ValueError(), ValueError(), Reject(), Skip()]))
    def fail(self, data: st.DataObject, error: Exception) -> None:
        """A handler raises."""
        self.hand.pool.go(data.draw(st.sampled_from(self.running())), error=error)

    @precondition(lambda self: self.engine.scheduler.ready or self.hand.pool.running)
    @rule(count=st.integers(2, 8), first=st.booleans())
    def work(self, count: int, first: bool = True) -> None:
        """Several handlers return, one after the other: the first to begin first, or the last of all that may run."""
        for _ in range(count):
            if not first and self.engine.scheduler.ready and self.hand.pool.sleeping:
                self.wake()
            elif self.hand.pool.running:
                self.hand.pool.go(self.running()[0 if first else -1])
            elif self.engine.scheduler.ready:
                self.wake()

    @precondition(lambda self: not self.hand.settling)
    @rule(renew=st.booleans())
    def settle(self, renew: bool) -> None:
        """The broker is told and answers at once."""
        self.begin_to_settle(renew)
        if self.hand.settling:
            self.end_settling(executed=True, heard=True)

    @precondition(lambda self: len(self.engine.parking) > 0)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        """A parked message's time has come."""
        parked = sorted(self.engine.parking.messages(), key=self.number)
        message = data.draw(st.sampled_from(parked))
        assert self.engine.parking.take(lambda other: other is message) == [message]
        self.known[message].state = "queued"
        self.engine.scheduler.requeue(message)

    # -- outputs and dead letters --------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        return sorted(self.engine.publisher.jobs, key=lambda job: self.number(job.message))

    @precondition(lambda self: self.engine.publisher.jobs)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        """An output, or a dead letter, is confirmed."""
        self.settle_job(data.draw(st.sampled_from(self.jobs())), None)

    @precondition(lambda self: self.engine.publisher.jobs)
    @rule(data=st.data())
    def refuse_output(self, data: st.DataObject) -> None:
        """An output, a dead letter or the reference to one can never be written."""
        self.settle_job(data.draw(st.sampled_from(self.jobs())), WriteError("never", permanent=True))

    def settle_job(self, job: Job, error: WriteError | None) -> None:
        delivery = self.known[job.message]
        assert delivery.state == "publishing" and not delivery.fenced
        if error is None:
            delivery.end(DONE)
        elif delivery.writing == "output":
            delivery.attempts += 1
            self.buried(delivery)
        elif delivery.writing == "dead letter":
            delivery.writing = "reference"
        else:
            self.stuck(delivery)
        self.engine.publisher._settle(Pending(job, Output(self.hand.sink, b"")), error)

    @precondition(lambda self: self.engine.publisher.jobs)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        """A message is completed as never to be delivered again."""
        job = data.draw(st.sampled_from(self.jobs()))
        self.engine.publisher.drop([job.message])
        self.known[job.message].end(REJECTED)
        self.engine.scheduler.complete(job.message, REJECTED)

    # -- settling ------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.hand.settling)
    @rule(renew=st.booleans())
    def begin_to_settle(self, renew: bool) -> None:
        """The committer tells the broker; what it says is checked against the model."""
        renew = renew and self.leases
        self.told = self.hand.begin_to_settle(renew=renew)
        told = {settlement.partition: settlement for settlement in self.told}
        assert len(told) == len(self.told)
        assert set(told) <= set(self.session.ledgers), "L3: a closed ledger settles nothing"
        self.offered = {}
        for ledger in self.live_ledgers():
            self.offered[ledger] = [d for d in self.out[ledger] if d.outcome is not None]
            self.check_settlement(ledger, told.get(int(str(ledger.partition))), renew)

    def check_settlement(self, ledger: Ledger, told: Settlement | None, renew: bool) -> None:
        """L1, L5, L6: exactly what has ended is told of, for as long as no success is heard of."""
        if isinstance(ledger, OffsetLedger):
            wanted = self.naive_state(ledger)
            assert (told is not None) == (wanted != self.heard[ledger]), "A4: whatever is new is told"
            assert told is None or (told.through, told.note) == wanted
            if told is not None:
                self.heard[ledger] = None  # in doubt
                ours = self.ours[int(str(ledger.partition))]
                ours[1:] = [told.note]
            assert told is None or not (told.beyond or told.released or told.rejected or told.renewed)
        else:
            self.check_tokens(ledger, told or Settlement(ledger.partition, None), renew)
        before = self.unheard.get(ledger)
        if before is not None:
            assert told is not None, "L5: what was not heard of is made again"
            self.check_larger(before, told)
        if told is not None:
            assert told.assignment == ledger.assignment.id
        if told is not None and (told.through is not None or told.beyond or told.released or told.rejected):
            self.unheard[ledger] = told

    def check_tokens(self, ledger: Ledger, told: Settlement, renew: bool) -> None:
        entries = self.out[ledger]
        done = [d.message.position for d in entries if d.outcome == DONE]
        prefix: list[Any] = []
        if self.ack == "both":
            ended = itertools.takewhile(lambda d: d.outcome == DONE, entries)
            prefix = [d.message.position for d in ended]
        covered = [d.message.position for d in self.up_to(ledger, told.through)]
        assert covered == prefix
        assert (*prefix, *told.beyond) == tuple(done)
        assert told.released == tuple(d.message.position for d in entries if d.outcome == RELEASED)
        assert told.rejected == tuple(d.message.position for d in entries if d.outcome == REJECTED)
        still_open = tuple(d.message.position for d in entries if d.outcome is None)
        assert told.renewed == (still_open if renew else ())

    def up_to(self, ledger: Ledger, position: Any) -> list[Delivery]:
        """Return what of a ledger is acknowledged by one acknowledgement of everything up to a position."""
        delivered = [d for d in self.known.values() if d.ledger is ledger]
        places = [n for n, d in enumerate(delivered) if d.message.position == position]
        return [d for n, d in enumerate(delivered) if places and n <= places[0] and d in self.out[ledger]]

    def check_larger(self, before: Settlement, now: Settlement) -> None:
        if not self.tokens:
            assert now.through is not None and now.through >= before.through
        elif self.ack == "individual":
            assert set(now.beyond) >= set(before.beyond)
        assert set(now.released) >= set(before.released)
        assert set(now.rejected) >= set(before.rejected)

    @precondition(lambda self: self.hand.settling and self.answer is None)
    @rule()
    def carry_out(self) -> None:
        """The broker does what it was told; until its answer is heard, anything may happen here."""
        self.answer = [refused for settlement in self.told if (refused := self.execute(settlement))]

    @precondition(lambda self: self.hand.settling)
    @rule(executed=st.booleans(), heard=st.booleans())
    def end_settling(self, executed: bool, heard: bool) -> None:
        """The call returns with what is refused, or raises, having been executed or not."""
        if self.answer is None and (executed or heard):
            self.carry_out()
        refusals, self.answer = self.answer or [], None
        if not heard:
            self.hand.end_settling(ConnectionError("the answer was lost"))
            return
        live = {settlement.partition: self.settled_by(settlement) for settlement in self.told}
        before = self.stats.settled
        for settlement in self.told:
            self.forget(settlement)
        for refused in refusals:
            self.fence_refused(refused)
        self.hand.end_settling(refusals)
        assert self.stats.settled - before == sum(live.values()), "settled once for each success"

    def settled_by(self, settlement: Settlement) -> int:
        """Return how many messages a success that is heard of covers."""
        ledger = self.live(int(str(settlement.partition)))
        if ledger is None or ledger.assignment.id != settlement.assignment:
            return 0
        if self.tokens:
            return len(self.offered[ledger])
        assert isinstance(ledger, OffsetLedger)
        return sum(ledger.committed <= d.message.position < settlement.through for d in self.out[ledger])

    def execute(self, settlement: Settlement) -> Refused | None:
        """Do at the broker what a settlement says; L1 is checked here, where a loss would become one."""
        partition = int(str(settlement.partition))
        ledger = self.owners.get(partition)
        if ledger is None or ledger.assignment.id != settlement.assignment:
            return Refused(partition, settlement.assignment)
        if not self.tokens:
            assert settlement.through is not None
            assert settlement.through >= self.committed[partition]
            for record in self.log[partition]:
                if record.offset < settlement.through:
                    assert record.done, f"L1: {record} is lost"
                    record.settled = True
            self.committed[partition], self.notes[partition] = settlement.through, settlement.note
            self.check_note(partition, read(settlement.note, settlement.through))
            return None
        return self.execute_tokens(settlement, self.out[ledger])

    def check_note(self, partition: int, note: Note | None) -> None:
        """A1, L1: what a note says is done was done, since nobody will run it again."""
        done = {record.offset for record in self.log[partition] if record.done}
        assert note is None or done_in(note) <= done, f"L1: {done_in(note) - done} are lost"

    def execute_tokens(self, settlement: Settlement, entries: list[Delivery]) -> Refused | None:
        covered = {*settlement.beyond, *settlement.rejected}
        ledger = self.owners[int(str(settlement.partition))]
        covered |= {d.message.position for d in self.up_to(ledger, settlement.through)}
        for delivery in entries:
            if delivery.message.position in covered and not delivery.gone:
                assert delivery.record.done, f"L1: {delivery} is lost"
                delivery.record.settled = True
        refused = tuple(d.message.position for d in entries if d.gone)
        return Refused(settlement.partition, settlement.assignment, refused) if refused else None

    def forget(self, settlement: Settlement) -> None:
        """A success was heard of: what it covered is out of the ledger."""
        ledger = self.live(int(str(settlement.partition)))
        if ledger is None or ledger.assignment.id != settlement.assignment:
            return
        self.unheard.pop(ledger, None)
        self.heard[ledger] = settlement.through, settlement.note
        self.ours[int(str(settlement.partition))] = [settlement.note]
        if self.tokens:
            self.out[ledger] = [d for d in self.out[ledger] if d not in self.offered[ledger]]

    def fence_refused(self, refused: Refused) -> None:
        ledger = self.owners.get(int(str(refused.partition)))
        if refused.positions is None or ledger is None:
            return
        for delivery in self.out[ledger]:
            if delivery.message.position in refused.positions and delivery.state != "ended":
                self.fence(delivery)
        self.out[ledger] = [d for d in self.out[ledger] if d.message.position not in refused.positions]

    @precondition(lambda self: self.leases and self.known)
    @rule(partition=st.sampled_from(PARTITIONS), data=st.data())
    def expire(self, partition: int, data: st.DataObject) -> None:
        """Leases run out: the broker gives messages to somebody else, who works them off."""
        ledger = self.live(partition)
        mine = [d for d in self.out[ledger] if not d.gone and not d.record.settled] if ledger else []
        if mine:
            for delivery in data.draw(st.lists(st.sampled_from(mine), unique=True, max_size=3)):
                delivery.gone = delivery.record.done = delivery.record.settled = True

    # -- revoking and losing -------------------------------------------------------------------------------------

    def fence(self, delivery: Delivery) -> None:
        """Note that nothing that becomes of a delivery counts any more; it ends, unless its handler is at work."""
        delivery.fenced = True
        if delivery.state != "running":
            delivery.end(None)

    def of(self, ledger: Ledger) -> Iterator[Delivery]:
        """Yield the deliveries of a ledger that have not ended."""
        yield from [d for d in self.out[ledger] if d.state != "ended"]

    @precondition(lambda self: any(not ledger.draining for ledger in self.live_ledgers()))
    @rule(partition=st.sampled_from(PARTITIONS))
    def begin_revoke(self, partition: int) -> None:
        """A revoke begins: what has not started is given back."""
        ledger = self.live(partition)
        if ledger is None or ledger.draining:
            return
        for delivery in self.of(ledger):
            if delivery.state not in ("running", "publishing"):
                delivery.end(RELEASED if self.tokens else None)
        self.hand.begin_revoke(ledger)

    @precondition(lambda self: any(ledger.draining for ledger in self.live_ledgers()))
    @rule(partition=st.sampled_from(PARTITIONS))
    def leave(self, partition: int) -> None:
        """A revoke has waited for what it could wait for: what is settled now is the last."""
        ledger = self.live(partition)
        if ledger is not None and ledger.draining:
            self.session.drain.leave([ledger])

    @precondition(lambda self: any(ledger.draining for ledger in self.live_ledgers()))
    @rule(partition=st.sampled_from(PARTITIONS))
    def end_revoke(self, partition: int) -> None:
        """A revoke ends: what still runs becomes an orphan."""
        ledger = self.live(partition)
        if ledger is not None and ledger.draining:
            self.fence_all(ledger)
            self.hand.end_revoke(ledger)
            del self.owners[partition]

    @precondition(lambda self: self.owners)
    @rule(partition=st.sampled_from(PARTITIONS))
    def lose(self, partition: int) -> None:
        """A partition is lost."""
        if (ledger := self.live(partition)) is not None:
            self.fence_all(ledger)
            self.session.lost([partition])
            del self.owners[partition]

    @precondition(lambda self: self.owners and not self.hand.settling)
    @rule(partition=st.sampled_from(PARTITIONS), data=st.data())
    def lose_before_the_answer(self, partition: int, data: st.DataObject) -> None:
        """A partition is lost while the broker's answer is on its way, which may refuse some of it."""
        if self.leases:
            self.expire(partition, data)
        self.begin_to_settle(renew=True)
        if self.hand.settling:
            self.carry_out()
            self.lose(partition)
            self.end_settling(executed=True, heard=True)

    @rule(executed=st.booleans())
    def crash(self, executed: bool) -> None:
        """The process ends wherever it is; another begins where the broker was told of last, with the note there."""
        if self.hand.settling and executed and self.answer is None:
            self.carry_out()
        self.hand.pool.close()
        for delivery in self.known.values():
            if delivery.state != "ended":
                delivery.fenced, delivery.state = True, "ended"
        self.begin()

    @rule(
        partition=st.sampled_from(PARTITIONS),
        elsewhere=st.integers(0, 2),
        note=st.sampled_from(["kept", "kept", "lost", "damaged"]),
    )
    def assign(self, partition: int, elsewhere: int, note: str = "kept") -> None:
        """A partition comes back, after another member has worked some of it off; or anew though it never went.

        If the other one knew nothing of notes, there is a stale one, or none.
        """
        if note == "lost":
            self.notes[partition] = None
        elif note == "damaged" and self.notes[partition]:
            self.notes[partition] = f"{self.notes[partition]}x"
        if (ledger := self.live(partition)) is not None:
            self.fence_all(ledger)
        self.owners.pop(partition, None)
        for record in [r for r in self.log[partition] if not r.settled][:elsewhere]:
            record.done = record.settled = True
            self.committed[partition] = max(self.committed[partition], record.offset + 1)
        self.give(partition)

    def fence_all(self, ledger: Ledger) -> None:
        for delivery in self.of(ledger):
            self.fence(delivery)
        self.unheard.pop(ledger, None)

    # -- invariants ----------------------------------------------------------------------------------------------

    def naive_watermark(self, ledger: OffsetLedger) -> Any:
        still_open = [d.message.position for d in self.out[ledger] if d.outcome is None]
        return still_open[0] if still_open else self.position[int(str(ledger.partition))]

    def naive_state(self, ledger: OffsetLedger) -> tuple[Any, str | None]:
        """A1, A2, A3: return the position and the note that the broker should have."""
        through = self.naive_watermark(ledger)
        if not self.noted:
            return through, None
        assert isinstance(ledger, NotedLedger)
        found, position = self.found[ledger], self.position[int(str(ledger.partition))]
        beyond = [d for d in self.out[ledger] if d.message.position >= through]
        offsets = {d.message.position for d in beyond if d.outcome in (DONE, REJECTED)}
        offsets |= {offset for offset in done_in(found) if offset >= position}
        attempts = {d.message.position: d.attempts for d in beyond if d.outcome is None and d.attempts}
        attempts |= {offset: count for offset, count in found.attempts.items() if offset >= position}
        opened = 0 if ledger.leaving else 1 + found.opened if through == found.base else 1
        done = bytes(offset in offsets for offset in range(through, max(offsets, default=through - 1) + 1))
        note = Note(through, done, attempts, opened)
        return through, None if note == Note(through) else write(note)

    @invariant()
    def l2_the_watermark_is_the_first_open_message(self) -> None:
        """L2, L6: it is what a list says it is, and never goes back."""
        for ledger in self.live_ledgers() if hasattr(self, "hand") else ():
            if not isinstance(ledger, OffsetLedger):
                continue
            low = ledger.position_of(ledger.watermark())
            assert low == self.naive_watermark(ledger)
            assert low >= self.lows.get(ledger, 0)
            self.lows[ledger] = low
            assert ledger.span() == len([d for d in self.out[ledger] if d.message.position >= low])

    @invariant()
    def l4_the_ledger_says_what_became_of_each(self) -> None:
        """L4: its bytes are the model's outcomes, and so are the bytes of the bodies that are open."""
        for ledger in self.live_ledgers() if hasattr(self, "hand") else ():
            outcomes = [OPEN if d.outcome is None else d.outcome for d in self.out[ledger]]
            if self.tokens:
                assert [state for state in ledger.outcomes() if state != SETTLED] == outcomes
            else:
                assert list(ledger.outcomes()) == outcomes[ledger.base :]
                assert OPEN not in outcomes[: ledger.base]
            still_open = sum(d.message.size for d in self.out[ledger] if d.outcome is None)
            assert ledger.open_bytes() == still_open
            if isinstance(ledger, OffsetLedger):
                told = self.heard[ledger] == self.naive_state(ledger)
                assert ledger.clean == (told and OPEN not in outcomes)
            else:
                assert ledger.clean == (not outcomes)

    @invariant()
    def s3_a_key_is_open_while_it_has_messages(self) -> None:
        """S3, S5: lanes are the keys of what is queued or started, orphans of the partition included."""
        for ledger in self.live_ledgers() if hasattr(self, "hand") else ():
            wanted = {
                d.lane
                for d in self.known.values()
                if d.state != "ended"
                and d.lane is not None
                and (d.ledger is ledger or (d.fenced and d.message.partition == ledger.partition))
            }
            assert set(ledger.lanes) == wanted

    @invariant()
    def s4_ready_is_what_may_start(self) -> None:
        """S4: the heads of keys and what has no key, all of them and nothing else, each once."""
        if not hasattr(self, "hand"):
            return
        taken: set[Any] = {
            (d.message.partition, d.lane)
            for d in self.known.values()
            if d.state in ("running", "publishing", "parked", "held")
        }
        wanted: list[Message[Any]] = []
        for ledger in self.live_ledgers():
            for delivery in self.of(ledger):
                lane = (delivery.message.partition, delivery.lane)
                if delivery.state == "queued" and (delivery.lane is None or lane not in taken):
                    wanted.append(delivery.message)
                    taken.add(lane)
        ready = self.engine.scheduler.ready
        assert len(ready) == len(set(ready))
        assert set(ready) == set(wanted)

    @invariant()
    def in_flight_is_counted_right(self) -> None:
        """E1: every message that was taken in leaves once."""
        if hasattr(self, "hand"):
            assert self.stats.in_flight == sum(d.counted and d.state != "ended" for d in self.known.values())

    # -- the end -------------------------------------------------------------------------------------------------

    def work_everything_off(self) -> None:
        if self.hand.settling:
            self.end_settling(executed=True, heard=True)
        for partition in PARTITIONS:
            self.assign(partition, 0)
            self.deliver(partition, None)
        for _ in range(10_000):
            if self.hand.pool.running:
                self.hand.pool.go(self.running()[0])
            elif self.engine.publisher.jobs:
                self.settle_job(self.jobs()[0], None)
            elif self.engine.scheduler.ready:
                self.wake()
            else:
                break
        assert self.stats.in_flight == 0
        for _ in range(2):
            self.begin_to_settle(renew=False)
            if self.hand.settling:
                self.end_settling(executed=True, heard=True)
        assert [r for log in self.log.values() for r in log if not r.settled] == []
        assert all(ledger.clean for ledger in self.live_ledgers())
        assert not self.engine.scheduler._orphans


def done_in(note: Note) -> set[int]:
    """Return the offsets that a note says are done."""
    return {note.base + offset for offset, flag in enumerate(note.done) if flag}


TestCore = Core.TestCase
TestCore.settings = hypothesis.settings(max_examples=400, stateful_step_count=50, deadline=None)

ENGINE = Path(pool_module.__file__).parent
LETTER = re.compile(r"^- ([A-Z]\d+)\. ", re.MULTILINE)


def invariants() -> dict[str, str]:
    """Return the module of each invariant that a docstring in the engine gives a letter."""
    return {
        letter: path.stem
        for path in sorted(ENGINE.glob("*.py"))
        for letter in LETTER.findall(path.read_text())
    }


def test_every_invariant_has_a_check() -> None:
    """The letters of ledger and scheduler are named by a check in this file, all others by one in this folder."""
    here = Path(__file__)
    letter = re.compile(r"\b[A-Z]\d+\b")
    everywhere = "".join(path.read_text() for path in here.parent.glob("test_*.py"))
    core = {letter for letter, module in invariants().items() if module in ("ledger", "scheduler")}
    assert core <= set(letter.findall(here.read_text()))
    assert set(invariants()) <= set(letter.findall(everywhere))


def test_what_waits_behind_an_orphan_can_be_taken_away_too() -> None:
    """S1, L1: a refused message that waits behind one refused earlier is dropped, not run once that has ended."""
    core = Core()
    core.start("individual", "key", True)
    core.fetch(0, [("a", 0), ("a", 0), ("b", 0)])
    core.wake()
    first, second, _ = core.known.values()
    for delivery in (first, second):
        delivery.gone = delivery.record.done = delivery.record.settled = True
        core.begin_to_settle(renew=True)
        core.end_settling(executed=True, heard=True)
        core.in_flight_is_counted_right()
        core.s3_a_key_is_open_while_it_has_messages()
    (slot,) = core.running()
    core.hand.pool.go(slot)
    assert second.state == "ended"
    core.teardown()


def check(core: Core) -> None:
    """Check all invariants."""
    core.l2_the_watermark_is_the_first_open_message()
    core.l4_the_ledger_says_what_became_of_each()
    core.s3_a_key_is_open_while_it_has_messages()
    core.s4_ready_is_what_may_start()
    core.in_flight_is_counted_right()


def test_a_ledger_is_compacted_behind_its_watermark() -> None:
    """L2: positions are right though the head was dropped several times, with gaps before, within and after it."""
    core = Core()
    core.start("cumulative", "none", True)
    for _ in range(6):
        core.fetch(0, [(None, 2), (None, 0), (None, 1), (None, 0), (None, 0)])
        core.work(5)
        core.settle(renew=False)
        check(core)
    ledger = core.live(0)
    assert ledger is not None and ledger.base > 0, "nothing was compacted"
    core.teardown()


def test_a_note_is_right_though_the_position_moved_within_a_run_of_offsets() -> None:
    """A4: what is done is told by its distance from the position, not from where the offsets began without a gap."""
    core = Core()
    core.start("noted", "none", True)
    core.fetch(0, [(None, 0)] * 4)
    core.work(2)
    core.settle(renew=False)
    core.work(3, first=False)
    core.settle(renew=False)
    check(core)
    core.teardown()


def test_a_note_keeps_what_has_not_been_fetched_again_yet() -> None:
    """A1: the first fetch of an assignment brings less than its note speaks of, and the next note says the rest."""
    core = Core()
    core.start("noted", "none", True)
    core.fetch(0, [(None, 0)] * 4)
    core.work(4, first=False)
    core.settle(renew=False)
    core.crash(executed=False)
    core.fetch(0, [], most=1)
    core.settle(renew=False)
    check(core)
    core.teardown()


def test_what_would_stop_a_partition_that_drains_is_given_back() -> None:
    """E1: there is nothing left to stop, and the message is counted as gone."""
    for ack in ("cumulative", "individual"):
        core = Core()
        core.start(ack, "key", False)
        core.fetch(0, [("a", 0)])
        core.wake()
        core.begin_revoke(0)
        (slot,) = core.running()
        core.hand.pool.go(slot, error=Reject())
        check(core)
        core.end_revoke(0)
        core.teardown()
