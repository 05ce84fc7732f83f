"""The sweep looks, four times a second, at what no message can be made to pay for: how long things take.

It stands apart from the engine because it judges and the engine connects: what it finds it hands to the parts.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio

from pythia_core.engine.health import Exit
from pythia_core.engine.hold import Hold
from pythia_core.engine.memory import MemoryGate
from pythia_core.engine.outcomes import HandlerTimeout
from pythia_core.engine.processor import ProcessorGate

if TYPE_CHECKING:
    from pythia_core.engine.engine import Engine

SWEEP = 0.25  # seconds between looks
OBSERVE = (
    5.0  # seconds between looks at what is neither running nor parked, which may be thousands of messages
)


class Sweep:
    """Looks at an engine again and again.

    Args:
        engine: whose handlers, leftovers, memory and use of processors.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._timeout = engine.settings.handler_timeout or float("inf")
        self._observe_at = 0.0
        self._leftover = False
        self._memory = self._make_gate()
        self._processor = self._make_processor_gate()
        longest = max(engine.settings.max_hold, engine.settings.handler_timeout or 0.0)
        self._hold = Hold(engine.parking, engine.disposition, engine.clock, longest)

    def _make_gate(self) -> MemoryGate | None:
        engine = self._engine
        if engine.memory is None or engine.settings.max_memory_mb is None:
            return None
        return MemoryGate(
            engine.settings.max_memory_mb,
            engine.memory,
            engine.stops,
            idle=engine.work.nothing_runs,
            exhausted=lambda why: engine.end_process(why, Exit.RECYCLE),
            random=random.random,
        )

    def _make_processor_gate(self) -> ProcessorGate | None:
        engine, settings, pool = self._engine, self._engine.settings, self._engine.pool
        if engine.processor is None or settings.max_cpu_percent is None:
            return None
        gate = ProcessorGate(
            settings.max_cpu_percent,
            engine.processor,
            most=settings.max_concurrent_tasks,
            size=settings.batch_size if engine.batch else 1,
            places=pool.places,
            stops=engine.stops,
            running=lambda: len(pool.running),
            waiting=lambda: engine.stats.in_flight - len(engine.parking) - len(pool.running),
            clock=engine.clock,
        )
        engine.gates.append(gate)
        return gate

    def held(self) -> float:
        """Return the seconds for which a committed position has been held up at most, see :class:`Hold`."""
        return self._hold.held()

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            await anyio.sleep(min(SWEEP, self._timeout / 4))
            self._observe()
            self._cancel_overdue()
            self._judge_leftovers()
            self._hold.look(() if self._engine.brake.engaged else self._engine.ledgers)
            if self._memory is not None:
                self._memory.look()
            if self._processor is not None:
                self._processor.look()

    def _observe(self) -> None:
        now = self._engine.clock()
        if now >= self._observe_at:
            self._observe_at = now + OBSERVE
            self._engine.work.observe()

    def _cancel_overdue(self) -> None:
        engine = self._engine
        for slot in engine.pool.observe():
            if engine.clock() - slot.since > self._timeout:
                why = f"the handler ran for more than {self._timeout:g} s"
                engine.pool.replace(slot, HandlerTimeout(why))

    def _judge_leftovers(self) -> None:
        """Have the process ended if nothing else ends a handler whose message somebody else may be working on by now."""
        engine = self._engine
        leftovers = engine.work.leftovers(engine.settings.drain_timeout)
        why = (
            f"{leftovers[0].message!r} was revoked, and its handler goes on though it was cancelled"
            if leftovers
            else None
        )
        if why and not self._leftover:
            engine.end_process(why, Exit.WATCHDOG)
        elif self._leftover and not why:
            engine.beyond_help = None
        self._leftover = bool(why)
