"""Replays on the broker in memory, as every kind of broker: nothing is lost, and nothing moves that was not asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pythia_core import Capabilities, ConfigError, Inspector, WriteError
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, Record
from pythia_core.dead_letters import DeadLetter, Place, Replay, Report, Selection, look, looker
from pythia_core.dead_letters import replay as module
from tests.waiting import eventually

KINDS: dict[str, dict[str, Any]] = {
    "each by itself": {},
    "leases": {"lease_seconds": 0.3},
    "both ways, few at once": {"ack": "both", "window": 7},
    "a log": {"ack": "cumulative", "partitions": 2},
}


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a shorter time for letters that do not come."""
    for name, seconds in {"QUIET": 0.1, "UNKNOWN": 0.3, "PATIENCE": 0.6, "ASK": 0.05}.items():
        monkeypatch.setattr(looker, f"{name}_SECONDS", seconds)


@pytest.fixture
def broker() -> MemoryBroker:
    """A broker of the test's own."""
    return MemoryBroker()


def place(broker: MemoryBroker, **options: Any) -> Place:
    """Return where the dead letters of `orders` lie."""
    source = MemoryConsumer("orders", broker=broker, consumer_group="g", **options)
    natural = source.dead_letters()
    assert natural is not None
    return Place(source, natural[1])


def bury(
    broker: MemoryBroker,
    *bodies: str,
    error: str = "builtins.ValueError",
    key: str | None = None,
    **more: Any,
) -> None:
    """Write dead letters."""
    headers = {
        "h": "1",
        "pythia-source": "orders",
        "pythia-error": error,
        "pythia-attempts": "8",
        "pythia-last-failure": "2026-01-31T12:00:00+00:00",
        **{f"pythia-{name.replace('_', '-')}": value for name, value in more.items()},
    }
    for body in bodies:
        broker.publish("orders.dlq", body.encode(), key=key, headers=headers)


def bodies(records: list[Record]) -> list[str]:
    """Return bodies as texts."""
    return [record.value.decode() for record in records]


def remaining(at: Place) -> list[str]:
    """Return the bodies of the letters that are not settled."""
    reader: Any = at.reader
    return bodies(reader.broker.unsettled(reader.topic, reader.group, reader.rules))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_letter_goes_back_as_it_was(broker: MemoryBroker, kind: str) -> None:
    """Body, key and own headers, once each, in their order; and the place is empty then."""
    at = place(broker, **KINDS[kind])
    bury(broker, *map(str, range(40)), key="k")
    report = await Replay(at).run()
    assert (report.replayed, report.seen) == (40, 40)
    assert bodies(broker.records("orders")) == [str(number) for number in range(40)]
    assert {(record.key, record.headers.items_all()) for record in broker.records("orders")} == {
        ("k", (("h", "1"),))
    }
    assert remaining(at) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_selected_stays(broker: MemoryBroker, kind: str) -> None:
    """However many lie before, between and behind, of one key; and a second replay finds them all."""
    at = place(broker, **KINDS[kind])
    for number in range(150):
        bury(broker, str(number), error="m.Odd" if number % 3 else "m.Even", key="k")
    report = await Replay(at, Selection(error="Even")).run()
    assert (report.replayed, report.unselected) == (50, 100)
    assert bodies(broker.records("orders")) == [str(number) for number in range(0, 150, 3)]
    assert sorted(map(int, remaining(at))) == [number for number in range(150) if number % 3]
    assert (await Replay(at, Selection(error="Nobody's")).run()).unselected == 100
    names = [[name for name, _ in record.headers.items_all()] for record in broker.records("orders.dlq")]
    assert all(len(set(each)) == len(each) for each in names), "marks pile up"
    assert (await Replay(at).run()).replayed == 100
    assert remaining(at) == []
    assert {record.headers.items_all() for record in broker.records("orders")} == {(("h", "1"),)}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_limit_is_not_passed(broker: MemoryBroker, kind: str) -> None:
    """The oldest are replayed, the others wait for the next replay in their order."""
    at = place(broker, **KINDS[kind])
    bury(broker, *map(str, range(30)), key="k")
    assert (await Replay(at, limit=4).run()).replayed == 4
    assert bodies(broker.records("orders")) == ["0", "1", "2", "3"]
    assert remaining(at) == [str(number) for number in range(4, 30)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_trial_changes_nothing(broker: MemoryBroker, kind: str) -> None:
    """It counts what would be replayed, as far as the broker lets it see."""
    at = place(broker, **KINDS[kind])
    bury(broker, *map(str, range(6)))
    report = await Replay(at, trial=True).run()
    assert (report.replayed, broker.records("orders")) == (6, [])
    assert len(remaining(at)) == len(broker.records("orders.dlq")) == 6


async def test_a_reference_cannot_be_replayed_and_stays(broker: MemoryBroker) -> None:
    """Half a message is worse than none."""
    at = place(broker)
    bury(broker, "half of it", body_sha256="ab", body_bytes="2000000")
    report = await Replay(at).run()
    assert (report.replayed, report.references, len(remaining(at))) == (0, 1, 1)
    assert "of its 2,000,000 bytes only the first were kept" in report.faults[0]


async def test_letters_of_others_stay(broker: MemoryBroker) -> None:
    """A place may be shared; and what Pythia did not write is no dead letter."""
    at = place(broker)
    bury(broker, "a")
    bury(broker, "b", source="payments")
    broker.publish("orders.dlq", b"c")
    report = await Replay(at).run()
    assert (report.replayed, dict(report.foreign)) == (1, {"payments": 1, "no dead letters": 1})
    assert remaining(at) == ["b", "c"]


async def test_a_letter_that_is_refused_for_good_stays(broker: MemoryBroker) -> None:
    """The others are not held up by it."""
    at = place(broker)
    bury(broker, "large", "small")
    broker.fail_indexes({0: WriteError("too large", permanent=True)}, topic="orders")
    report = await Replay(at).run()
    assert (report.replayed, report.refused, remaining(at)) == (1, 1, ["large"])
    assert "refused by orders: too large" in report.faults[0]


async def test_an_outage_is_waited_out(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is tried again, and the letter is settled after it, not before."""
    monkeypatch.setattr(module, "full_jitter", lambda *_: 0.01)
    at = place(broker)
    bury(broker, "1", "2")
    broker.fail_next("write", times=3, topic="orders")
    assert (await Replay(at).run()).replayed == 2
    assert (bodies(broker.records("orders")), remaining(at)) == (["1", "2"], [])


async def test_a_letter_is_settled_only_after_its_message_is_confirmed(broker: MemoryBroker) -> None:
    """While the write hangs the letter is there; whoever is killed now has lost nothing."""
    at = place(broker)
    bury(broker, "1")
    broker.hold("write", gate := anyio.Event(), topic="orders")
    replay = Replay(at)
    async with anyio.create_task_group() as group:
        group.start_soon(replay.run)
        await eventually(lambda: broker.topic("orders.dlq").groups, "letters are read")
        await eventually(lambda: broker.pending("orders.dlq", "dead-letters"), "it is at work")
        with anyio.move_on_after(0.2):  # several intervals of the committer
            await eventually(lambda: not remaining(at), "it is settled")
        assert remaining(at) == ["1"]
        gate.set()
    assert (bodies(broker.records("orders")), remaining(at)) == (["1"], [])


async def test_a_replay_waits_for_letters_that_are_on_their_way(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker says that there are more than came: a read hangs, or another one had them and gives them back."""
    monkeypatch.setattr(looker, "PATIENCE_SECONDS", 30.0)
    at = place(broker)
    bury(broker, "1", "2")
    broker.hold("fetch", gate := anyio.Event(), topic="orders.dlq")
    asked: list[int] = []

    class Counted(MemoryConsumer):
        def inspect(self) -> Inspector:
            asked.append(1)
            return super().inspect()

    reader = Counted("orders.dlq", broker=broker, consumer_group="dead-letters")
    replay = Replay(Place(at.source, reader))
    async with replaying(replay):
        await eventually(lambda: len(asked) >= 4, "it has asked whether there are more, again and again")
        gate.set()
    assert replay.report.replayed == 2


async def test_letters_that_another_one_holds_are_not_waited_for_for_ever(broker: MemoryBroker) -> None:
    """They are his; he may be another replay."""
    at = place(broker)
    bury(broker, "his", "ours")
    his = await at.reader.subscribe(Nobody())
    await his.fetch({0: 1}, 1, 100, 0)
    with anyio.fail_after(5):
        assert (await Replay(at).run()).replayed == 1
    assert bodies(broker.records("orders")) == ["ours"]
    await his.aclose()


@asynccontextmanager
async def replaying(replay: Replay) -> AsyncIterator[None]:
    """Run a replay beside the block."""
    async with anyio.create_task_group() as group:
        group.start_soon(replay.run)
        yield


@pytest.mark.parametrize("kind", KINDS)
async def test_interrupted_it_repeats_none_and_loses_none(broker: MemoryBroker, kind: str) -> None:
    """What was written is settled, what was not is still there, and the next replay does the rest."""
    at = place(broker, **KINDS[kind])
    bury(broker, *map(str, range(60)), key="k")
    replay: Replay

    def stop_in_the_middle(report: Report) -> None:
        if report.replayed == 20:
            replay.stop()

    replay = Replay(at, watch=stop_in_the_middle)
    report = await replay.run()
    assert (report.interrupted, report.replayed) == (True, 20)
    assert len(remaining(at)) == 40
    await Replay(at).run()
    assert bodies(broker.records("orders")) == [str(number) for number in range(60)]


async def test_a_rate_is_kept(broker: MemoryBroker) -> None:
    """21 at 100 a second take 0.2 s at least."""
    at = place(broker)
    bury(broker, *map(str, range(21)))
    began = anyio.current_time()
    assert (await Replay(at, rate=100).run()).replayed == 21
    assert anyio.current_time() - began >= 0.2


async def test_an_interruption_does_not_wait_for_the_next_turn(broker: MemoryBroker) -> None:
    """At one an hour the second letter is given back at once."""
    at = place(broker)
    bury(broker, "1", "2")
    replay = Replay(at, rate=1 / 3600)
    with anyio.fail_after(5):
        async with replaying(replay):
            await eventually(lambda: replay.report.replayed == 1, "the first is replayed")
            replay.stop()
    assert remaining(at) == ["2"]


async def test_a_source_that_is_not_there_is_said_at_once(broker: MemoryBroker) -> None:
    """Before anything is taken."""
    at = place(broker)
    bury(broker, "1")

    class Down(MemoryConsumer):
        def inspect(self) -> Inspector:
            raise ConnectionError("down")

    down = Down("orders.dlq", broker=broker, consumer_group="g")
    with pytest.raises(ConfigError, match=r"orders\.dlq cannot be reached: down"):
        await Replay(Place(at.source, down)).run()


class Blind(MemoryConsumer):
    """A source whose broker shows only what it delivers, and counts nothing."""

    def inspect(self) -> Inspector:
        return Inspector()


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_look_changes_nothing(broker: MemoryBroker, kind: str, blind: bool) -> None:
    """Whether the broker shows what it has or has to deliver it; the oldest first, and no more than wanted."""
    options = KINDS[kind]
    reader = (Blind if blind else MemoryConsumer)(
        "orders.dlq", broker=broker, **{"partitions": 1, **options, "consumer_group": "g"}
    )
    bury(broker, *map(str, range(5)))
    seen: list[DeadLetter] = []

    def keep(letter: DeadLetter) -> bool:
        seen.append(letter)
        return len(seen) < 4

    for _ in range(3):  # were it counted, the third look would find suspects
        seen.clear()
        await look(reader, keep)
        assert len(seen) == 4
        assert {(letter.source, letter.attempts) for letter in seen} == {("orders", 8)}
    left = broker.unsettled("orders.dlq", "g", reader.rules)
    assert bodies(left) == ["0", "1", "2", "3", "4"]
    if blind and reader.capabilities.delivery_count:
        owner = await _deliveries(reader)
        assert owner == {1}


class Nobody:
    """An owner that takes note of nothing."""

    def assigned(self, assignments: Any) -> None: ...
    async def revoked(self, partitions: Any, deadline: float) -> None: ...
    def lost(self, partitions: Any) -> None: ...


async def _deliveries(reader: MemoryConsumer) -> set[int | None]:
    """Take everything once more and return the counts of deliveries."""
    counts: set[int | None] = set()

    subscription = await reader.subscribe(Nobody())
    for chunk in await subscription.fetch({0: 5}, 5, 1 << 20, 0):
        counts |= {message.deliveries for message in chunk.messages}
    await subscription.aclose()
    return counts


def test_a_source_that_reads_dead_letters_has_none_itself() -> None:
    """Dead letters of dead letters would pile up where nobody looks."""
    assert MemoryConsumer("orders.dlq").dead_letters() is None
    assert MemoryConsumer("orders").capabilities == Capabilities(order_scope="consumer", delivery_count=True)
