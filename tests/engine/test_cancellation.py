"""A run that is cut off at every one of its steps: whatever was under way, nothing is lost and nothing is settled undone.

A step is what one task does between two waits, so every checkpoint of the engine, of the broker in memory and of the
handlers is met. The run is cancelled (a process's end), stopped, or forced to stop there; another engine does the rest.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import trio
import trio.abc
import trio.testing

from pythia_core.brokers.memory import MemoryBroker, MemoryProducer
from pythia_core.contracts import Message, Output
from pythia_core.engine.engine import Engine
from pythia_core.errors import BatchError, Reject
from tests.engine.bench import make

KINDS: dict[str, dict[str, Any]] = {
    "queue": {},
    "leases": {"lease_seconds": 30.0},
    "log": {"ack": "cumulative"},
    "log with notes": {"ack": "cumulative", "notes": True},
    "both": {"ack": "both", "window": 50},
    "batches": {"batch": True},
    "batches of a log": {"batch": True, "ack": "cumulative", "notes": True},
}
SCRIPT = [
    ("work", "a"),
    ("retry", "a"),
    ("work", "a"),
    ("output", "b"),
    ("dead", "b"),
    ("work", "b"),
    ("output", None),
    ("work", None),
    ("retry", "b"),
    ("output", "a"),
]
FEWEST = 50  # steps that the script must make
PATIENCE = 120.0  # virtual seconds in which a run has to end


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and acts before one of them."""

    def __init__(self, at: int | None) -> None:
        self.count = 0
        self._at = at
        self._act: Callable[[], None] | None = None

    def watch(self, act: Callable[[], None]) -> None:
        """Begin to count."""
        self._act = act

    def end(self) -> None:
        """Count no more."""
        self._act = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._act is not None:
            self.count += 1
            if self.count == self._at:
                self._act()


@attrs.define(eq=False)
class World:
    """A broker, what was published there, and what handlers did."""

    broker: MemoryBroker
    bodies: list[tuple[bytes, str | None]]
    effects: list[bytes] = attrs.field(factory=list)

    def publish(self) -> None:
        for body, key in self.bodies:
            self.broker.publish("orders", body, key=key)

    async def handle(self, message: Message[Any]) -> object:
        """Do what the body says; the effect is the last thing."""
        what = message.raw.split()[1]
        await trio.lowlevel.checkpoint()
        if what == b"dead":
            raise Reject("as the script says")
        if what == b"retry" and message.attempt == 1:
            raise ValueError("as the script says")
        self.effects.append(message.raw)
        key: Any = message.key
        return Output(None, message.raw, key=key) if what == b"output" else None

    async def handle_batch(self, messages: list[Message[Any]]) -> None:
        """Do the same for many, one after the other; a failure voids what comes behind it, for its key."""
        errors: dict[int, BaseException] = {}
        failed: set[Any] = set()
        for index, message in enumerate(messages):
            if message.key in failed:
                continue
            try:
                await self.handle(message)
            except Exception as error:
                errors[index] = error
                failed |= {message.key} - {None}
        if errors:
            raise BatchError(errors)

    @property
    def settled(self) -> set[bytes]:
        """What will never be delivered again."""
        joined = self.broker.topic("orders").groups
        return {record.value for record in self.broker.settled("orders")} if joined else set()

    @property
    def ended(self) -> Counter[bytes]:
        """How often each message has had its last consequence: an effect, an output or a dead letter."""
        plain = [body for body in self.effects if b"output" not in body]
        outputs = [record.value for record in self.broker.records("out")]
        return Counter([*plain, *outputs, *(record.value for record in self.broker.dead_letters("orders"))])

    def check(self) -> None:
        """Nothing is settled undone, and messages of a key took effect in their order."""
        assert self.settled <= set(self.ended), "settled undone"
        for key in ("a", "b"):
            mine = [body for body, of in self.bodies if of == key]
            first = list(dict.fromkeys(body for body in self.effects if body in mine))
            assert first == sorted(first, key=mine.index), f"out of order: {first}"


async def run_to_its_end(engine: Engine, world: World, steps: Steps | None, act: str) -> None:
    """Run until everything is settled, or until the step at which the run is cut off."""
    with trio.fail_after(PATIENCE), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def stop_when_all_is_settled() -> None:
                while len(world.settled) < len(world.bodies):  # noqa: ASYNC110 - virtual time, and its steps count too
                    await trio.sleep(0.01)
                engine.stop()

            nursery.start_soon(stop_when_all_is_settled)
            if steps is not None:
                acts: dict[str, Callable[[], None]] = {
                    "cancel": scope.cancel,
                    "stop": engine.stop,
                    "force": engine.force,
                }
                steps.watch(acts[act])
            await engine.run()
            nursery.cancel_scope.cancel()
    if steps is not None:
        steps.end()


def run(kind: str, act: str, at: int | None) -> int:
    """Run once, cut off at a step, and let another engine do the rest; return how many steps the first one made."""
    options = KINDS[kind]
    batch = options.get("batch", False)
    script = [("work" if batch and what == "output" else what, key) for what, key in SCRIPT]
    bodies = [(f"{number} {what}".encode(), key) for number, (what, key) in enumerate(script)]
    steps = Steps(at)

    async def main() -> None:
        world = World(MemoryBroker(clock=trio.current_time), bodies)
        world.publish()
        async with (
            MemoryProducer("orders.dlq", broker=world.broker) as letters,
            MemoryProducer("out", broker=world.broker) as out,
        ):

            def engine() -> Engine:
                handler: Any = world.handle_batch if batch else world.handle
                settings: dict[str, Any] = {"order": "key", "max_concurrent_tasks": 3, "sink": out}
                return make(world.broker, handler, dead_letter=letters, **settings, **options)

            await run_to_its_end(engine(), world, steps, act)
            world.check()
            if len(world.settled) < len(bodies):
                await run_to_its_end(engine(), world, None, act)
            world.check()
            assert world.settled == {body for body, _ in bodies}
            if (
                act == "stop" and kind != "log"
            ):  # without notes a log repeats what is done behind a parked message
                assert set(world.ended.values()) == {1}, f"repeated: {world.ended}"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[steps])
    return steps.count


@pytest.fixture(autouse=True)
def _the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make trio, which shuffles its tasks, shuffle them alike."""
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", random.Random(1))
    yield


@pytest.mark.parametrize("act", ["cancel", "stop", "force"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_cut_off_at_any_step_loses_nothing(kind: str, act: str) -> None:
    """E1, L1, S2: what was not settled comes again; after a stop nothing that was done does."""
    whole = run(kind, act, None)
    assert whole > FEWEST, "there is something to cut off"
    for at in range(1, whole + 1):
        try:
            run(kind, act, at)
        except BaseException as error:
            error.add_note(f"{act} at step {at} of {whole}, {kind}")
            raise
