"""The broker's state machine against a naive model, which keeps one plain dict of what became of each record."""

from collections.abc import Hashable, Iterable
from typing import Any

import attrs
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pythia_core.brokers.memory import Group, Member, MemoryBroker, Record, Rules
from pythia_core.contracts import SUSPECT_AFTER, Assignment, Message, Partition, Settlement
from tests.memory.owner import Recorder

KINDS = [
    Rules(),
    Rules(lease_seconds=5, window=7),
    Rules(ack="both"),
    Rules(ack="both", window=5, lease_seconds=5, keep_rejected=True),
    Rules(order_scope="partition", rebalances="incremental", lease_seconds=5),
    Rules(ack="both", order_scope="partition", rebalances="eager", revoke_seconds=4),
    Rules(ack="cumulative"),
    Rules(ack="cumulative", notes=True, rebalances="eager", revoke_seconds=4),
    Rules(ack="cumulative", notes=True, rebalances="incremental", window=6),
]

Place = tuple[int, int]  # partition and offset


@attrs.define(eq=False)
class Out:
    """What the model knows of a record that is delivered and not settled."""

    assignment: Hashable
    position: Any
    expires: float
    counts: bool  # whether failing counts: not for a suspect that was delivered with others


@attrs.define(eq=False)
class Fate:
    """What the model knows of a record: waiting if neither out nor settled."""

    failures: int = 0
    out: Out | None = None
    settled: bool = False


class Broker(RuleBasedStateMachine):
    """Publish, join, leave, expire, fetch, settle, revoke and let time pass, in any order."""

    members: Bundle[Member] = Bundle("members")

    @initialize(rules=st.sampled_from(KINDS), partitions=st.integers(1, 4))
    def start(self, rules: Rules, partitions: int) -> None:
        """Make a topic with two groups, of which one is read and the other must not notice."""
        self.now = 0.0
        self.kind = rules
        self.broker = MemoryBroker(clock=lambda: self.now, retention=10_000)
        self.broker.topic("orders", partitions)
        self.group: Group = self.broker.group("orders", "readers", rules)
        self.other: Group = self.broker.group("orders", "others", Rules())
        self.fates: dict[Place, Fate] = {}
        self.handed: dict[tuple[Hashable, Any], Place] = {}  # by assignment and position
        self.expired: set[tuple[Hashable, Any]] = set()
        self.dead: list[tuple[Partition, Hashable]] = []  # assignments that have ended
        self.ids: set[Hashable] = set()
        self.committed: dict[int, int] = {}
        self.notes: dict[Partition, str | None] = {}
        self.giving_since: dict[Member, float] = {}
        self.repeat: tuple[Member, Settlement] | None = None
        self.rejected = 0

    # Publishing --------------------------------------------------------------------------------------

    @rule(keys=st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=6))
    def publish(self, keys: list[str | None]) -> None:
        """Messages come."""
        for key in keys:
            record = self.broker.publish("orders", b"x", key=key)
            self.fates[record.partition, record.offset] = Fate()

    @rule()
    def add_partition(self) -> None:
        """An operator adds a partition."""
        if (count := len(self.group.topic.logs)) < 6:
            self.broker.topic("orders", count + 1)
            self.see_assignments()

    # Membership --------------------------------------------------------------------------------------

    @rule(target=members)
    def join(self) -> Any:
        """A member joins."""
        if len(self.group.members) >= 4:
            return multiple()
        member = Member(self.broker.new_member_name("readers"), Recorder())
        self.group.join(member, self.now)
        self.see_assignments()
        return member

    @rule(member=consumes(members))
    def leave(self, member: Member) -> None:
        """A member goes."""
        held = dict(member.held)
        self.group.leave(member, self.now)
        self.ended(held)

    @rule(member=members)
    def expire(self, member: Member) -> None:
        """A member's session runs out, and it joins again."""
        held = dict(member.held)
        self.broker.expire(member)
        assert not owner(member).held
        self.ended(held)
        if member not in self.group.members:
            self.rejoin(member)

    def rejoin(self, member: Member) -> None:
        """Join again; what others were asked for until then may have been withdrawn, and the time starts anew."""
        self.nobody_delays_a_rebalance()
        self.group.join(member, self.now)
        self.see_assignments()

    @rule(member=members)
    def begin_to_give_up(self, member: Member) -> None:
        """A member sees what it is asked for, and begins to drain."""
        asked = self.group.to_give_up(member)
        assert set(asked) <= member.revoking <= set(member.held)

    @rule(member=members, some=st.booleans())
    def give_up(self, member: Member, some: bool) -> None:
        """A member has drained all or one of what it was asked for."""
        partitions = sorted(member.revoking, key=str)[: 1 if some else None]
        held = {partition: member.held[partition] for partition in partitions}
        for partition in partitions:
            owner(member).held.pop(partition)
        self.group.gave_up(member, partitions)
        self.ended(held)

    def ended(self, held: dict[Partition, int]) -> None:
        """What was out under these assignments is waiting again, and has failed once more."""
        for partition, id in held.items():
            self.dead.append((partition, id))
            for fate in self.fates.values():
                if fate.out and fate.out.assignment == id:
                    fate.failures += fate.out.counts
                    fate.out = None
        self.see_assignments()

    def see_assignments(self) -> None:
        """M4: new assignments have new ids, and begin at the committed position with its note."""
        for member in self.group.members:
            for partition, assignment in owner(member).held.items():
                if assignment.id not in self.ids:
                    self.ids.add(assignment.id)
                    self.check_start(partition, assignment)

    def check_start(self, partition: Partition, assignment: Assignment) -> None:
        if self.kind.ack == "cumulative":
            settled = [place for place, fate in self.fates.items() if place[0] == partition and fate.settled]
            assert assignment.position == len(settled)
            assert assignment.note == self.notes.get(partition)

    # Fetching ----------------------------------------------------------------------------------------

    @rule(member=members, data=st.data(), limit=st.integers(0, 12))
    def fetch(self, member: Member, data: st.DataObject, limit: int) -> None:
        """A member fetches with some room in some partitions; it gets all that fits, in order, and no more."""
        self.pass_time(0)
        partitions = sorted(self.group.feeds, key=str)
        room: dict[Partition, int] = data.draw(
            st.dictionaries(st.sampled_from(partitions), st.integers(0, 9))
        )
        readable = [p for p in room if p in member.held and p not in member.giving | member.revoking]
        bound = limit
        if self.kind.window is not None:
            bound = min(limit, self.kind.window - len(self.out_of(member)))
        expected = min(bound, sum(min(room[p], len(self.waiting(p))) for p in readable))
        waiting = {log: self.waiting_in_log(log) for log in range(len(self.group.topic.logs))}

        chunks = self.group.take(member, room, limit, 1 << 20, self.now)

        assert sum(len(chunk.messages) for chunk in chunks) == max(0, expected)
        assert len({chunk.partition for chunk in chunks}) == len(chunks)
        delivered: list[Place] = []
        for chunk in chunks:
            assert len(chunk.messages) <= room[chunk.partition]
            delivered += [
                self.deliver(member.held[chunk.partition], chunk.partition, m, alone=limit == 1)
                for m in chunk.messages
            ]
            if self.kind.ack == "cumulative":
                assert chunk.position == chunk.messages[-1].position + 1
            else:
                assert chunk.position is None
        for log, places in waiting.items():
            taken = [place for place in delivered if place[0] == log]
            if limit == 1 and self.kind.ack != "cumulative":  # suspects come first
                places = sorted(places, key=lambda place: self.fates[place].failures < SUSPECT_AFTER)
            assert taken == places[: len(taken)]

    def deliver(self, id: int, partition: Partition, message: Message[Any], *, alone: bool) -> Place:
        """M2, M6: what is delivered was waiting, and its deliveries are counted."""
        assert (id, message.position) not in self.handed or self.kind.ack == "cumulative"
        place = place_of(message)
        fate = self.fates[place]
        assert message.partition == partition
        assert not fate.settled and fate.out is None
        assert message.deliveries == (None if self.kind.ack == "cumulative" else fate.failures + 1)
        counts = alone or fate.failures < SUSPECT_AFTER
        fate.out = Out(id, message.position, self.now + (self.kind.lease_seconds or 1e9), counts)
        self.handed[id, message.position] = place
        return place

    # Settling ----------------------------------------------------------------------------------------

    @rule(member=members, data=st.data())
    def settle(self, member: Member, data: st.DataObject) -> None:
        """A member settles some of what it ever got under a live assignment."""
        self.pass_time(0)
        if member.held:
            partition = data.draw(st.sampled_from(sorted(member.held, key=str)))
            cumulative = self.kind.ack == "cumulative"
            draw = self.commit if cumulative else self.acknowledge
            settlement = data.draw(draw(partition, member.held[partition]))
            self.expect(member, settlement)
            self.repeat = member, settlement

    def commit(self, partition: Any, id: int) -> st.SearchStrategy[Settlement]:
        """Draw a commit between what is committed and what was delivered."""
        mine = [place for place in self.fates if place[0] == partition]
        low = sum(self.fates[place].settled for place in mine)
        high = low + sum(self.fates[place].out is not None for place in mine)
        through = st.none() | st.integers(low, high)
        note = st.none() | st.text(max_size=3) if self.kind.notes else st.none()
        return st.builds(Settlement, st.just(partition), st.just(id), through, note=note)

    def acknowledge(self, partition: Any, id: int) -> st.SearchStrategy[Settlement]:
        """Draw verbs for what was ever handed out under this assignment, each position once."""
        ever = [position for (assignment, position) in self.handed if assignment == id]
        tags = st.none() | st.sampled_from(ever) if ever and self.kind.ack == "both" else st.none()

        def build(through: Any, verbs: list[int]) -> Settlement:
            parts: list[list[Any]] = [[], [], [], [], []]  # beyond, released, rejected, renewed, not named
            for position, verb in zip(ever, verbs, strict=False):
                if through is None or position > through:
                    parts[verb].append(position)
            beyond, released, rejected, renewed = map(tuple, parts[:4])
            return Settlement(partition, id, through, beyond, released, rejected, renewed)

        return st.builds(build, tags, st.lists(st.integers(0, 4), min_size=len(ever), max_size=len(ever)))

    def expect(self, member: Member, settlement: Settlement) -> None:
        """M3: do it, do the same to the model, and compare what is refused."""
        id = settlement.assignment
        expired = {position for assignment, position in self.expired if assignment == id}
        named = {*settlement.beyond, *settlement.released, *settlement.rejected, *settlement.renewed}
        if self.kind.ack == "both" and settlement.through is not None:
            named |= {tag for tag in expired if tag <= settlement.through}
        refused = self.group.settle(member, settlement, self.now)
        assert set(refused.positions or () if refused else ()) == named & expired
        assert refused is None or (refused.partition, refused.assignment) == (settlement.partition, id)
        for fate in self.fates.values():
            if fate.out and fate.out.assignment == id:
                self.apply(settlement, fate, fate.out)
        if settlement.through is not None or settlement.note is not None:
            self.notes[settlement.partition] = settlement.note

    def apply(self, settlement: Settlement, fate: Fate, out: Out) -> None:
        through = settlement.through
        last = through if self.kind.ack == "both" or through is None else through - 1
        if (through is not None and out.position <= last) or out.position in settlement.beyond:
            fate.settled, fate.out = True, None
        elif out.position in settlement.rejected:
            fate.settled, fate.out = True, None
            self.rejected += 1
        elif out.position in settlement.released:
            fate.out = None
        elif out.position in settlement.renewed and self.kind.lease_seconds:
            out.expires = self.now + self.kind.lease_seconds

    @rule()
    def settle_the_same_again(self) -> None:
        """M3: after a lost answer the same is settled again, and nothing changes."""
        if self.repeat:
            self.pass_time(0)
            member, settlement = self.repeat
            through = settlement.through
            cumulative = self.kind.ack == "cumulative"
            if (
                cumulative
                and through is not None
                and through
                < self.broker.committed(
                    "orders",
                    "readers",
                    settlement.partition,  # type: ignore[arg-type]
                )
            ):
                return  # an engine's watermark never goes back
            if member.held.get(settlement.partition) == settlement.assignment:
                settled = sum(fate.settled for fate in self.fates.values())
                self.expect(member, settlement)
                assert settled == sum(fate.settled for fate in self.fates.values())

    @rule(member=members, data=st.data())
    def settle_what_is_no_longer_ours(self, member: Member, data: st.DataObject) -> None:
        """M3: a settlement under an assignment that has ended is refused as a whole and changes nothing."""
        if self.dead:
            partition, id = data.draw(st.sampled_from(self.dead))
            positions = tuple(position for (assignment, position) in self.handed if assignment == id)
            through = None if self.kind.ack == "individual" or not positions else max(positions)
            settlement = Settlement(partition, id, through, beyond=positions, note="zombie")
            refused = self.group.settle(member, settlement, self.now)
            assert refused is not None and refused.positions is None
            assert (refused.partition, refused.assignment) == (partition, id)
            self.pass_time(0)

    # Time --------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 2, 5, 11]))
    def pass_time(self, seconds: float) -> None:
        """Leases run out, and who does not give up in time is expired."""
        self.now += seconds
        before = {member: dict(member.held) for member in self.group.members}
        self.group.sweep(self.now)
        for fate in self.fates.values():
            if (out := fate.out) and out.expires <= self.now:
                self.expired.add((out.assignment, out.position))
                fate.out = None
                fate.failures += out.counts
        for member, held in before.items():
            if member not in self.group.members:
                assert owner(member).names()[-1] == "lost"
                self.ended(held)
                self.rejoin(member)

    # Invariants --------------------------------------------------------------------------------------

    @invariant()
    def every_record_is_in_one_state(self) -> None:
        """M1: waiting, delivered, settled: as in the model, and nothing twice."""
        self.pass_time(0)
        waiting, delivered, settled = (places(records) for records in self.group.states())
        assert waiting == sorted(p for p, f in self.fates.items() if not f.settled and not f.out)
        assert delivered == sorted(p for p, f in self.fates.items() if f.out)
        assert settled == sorted(p for p, f in self.fates.items() if f.settled)
        backlog = self.group.backlog(self.now)
        assert (backlog.waiting, backlog.in_flight) == (len(waiting), len(delivered))
        assert len(self.broker.dead_letters("orders")) == (self.rejected if self.kind.keep_rejected else 0)

    @invariant()
    def owners_agree(self) -> None:
        """M4: what owners were told they hold is what the group says, and no partition has two owners."""
        told = [(p, a.id) for m in self.group.members for p, a in owner(m).held.items()]
        held = [pair for member in self.group.members for pair in member.held.items()]
        assert sorted(told, key=str) == sorted(held, key=str)
        if self.kind.split:
            assert len({partition for partition, _ in held}) == len(held)

    @invariant()
    def partitions_are_fairly_shared(self) -> None:
        """M4: once nobody has anything to give up, everything is held, and evenly if partitions move."""
        members = self.group.members
        if not members or any(member.giving or member.revoking for member in members):
            return
        counts = [len(member.held) for member in members]
        if not self.kind.split:
            assert counts == [1] * len(members)
        else:
            assert sum(counts) == len(self.group.feeds)
            assert not self.kind.rebalances or max(counts) - min(counts) <= 1

    @invariant()
    def nobody_delays_a_rebalance(self) -> None:
        """Who was asked to give up has done so, or is out, within revoke_seconds."""
        asked = {member for member in self.group.members if member.giving or member.revoking}
        self.giving_since = {member: self.giving_since.get(member, self.now) for member in asked}
        assert all(self.now - since < self.kind.revoke_seconds for since in self.giving_since.values())

    @invariant()
    def committed_positions_never_go_back(self) -> None:
        """M5: a committed position only grows."""
        for partition in range(len(self.group.topic.logs)):
            committed = self.broker.committed("orders", "readers", partition)
            assert committed >= self.committed.get(partition, 0)
            self.committed[partition] = committed

    @invariant()
    def other_groups_do_not_notice(self) -> None:
        """M7: a group that nobody reads has everything waiting."""
        assert places(self.other.states()[0]) == sorted(self.fates)

    # Helpers -----------------------------------------------------------------------------------------

    def waiting_in_log(self, log: int) -> list[Place]:
        """Return what waits in one log, in order."""
        return sorted(
            p for p, fate in self.fates.items() if p[0] == log and not fate.settled and not fate.out
        )

    def waiting(self, partition: Any) -> list[Place]:
        """Return what waits in what a member calls a partition."""
        logs: Iterable[int] = [partition] if self.kind.split else range(len(self.group.topic.logs))
        return [place for log in logs for place in self.waiting_in_log(log)]

    def out_of(self, member: Member) -> list[Fate]:
        """Return what a member has out."""
        ids = set(member.held.values())
        return [fate for fate in self.fates.values() if fate.out and fate.out.assignment in ids]


def owner(member: Member) -> Recorder:
    """Return a member's owner, as what it is here."""
    assert isinstance(member.owner, Recorder)
    return member.owner


def place_of(message: Message[Any]) -> Place:
    """Return where a message lies, which its id says."""
    _, partition, offset = message.id.split("-")
    return int(partition), int(offset)


def places(records: Iterable[Record]) -> list[Place]:
    """Return where records lie, in order."""
    return sorted((record.partition, record.offset) for record in records)


TestBroker = Broker.TestCase
TestBroker.settings = profile(max_examples=150, stateful_step_count=40)
