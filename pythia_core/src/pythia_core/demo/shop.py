"""Runs the demonstration: a worker, a graceful stop in the middle, and another worker that goes on.

It stands apart from what is shown and how: it reports to a :class:`Screen` and returns what the auditor found.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import attrs
from anyio.abc import TaskStatus

from pythia_core.brokers.memory import DEAD_LETTERS, MemoryBroker, MemoryConsumer, MemoryProducer
from pythia_core.demo.audit import GROUP, RECEIPTS, TOPIC, Check, Stop, audit, read_books
from pythia_core.demo.orders import Order, publish
from pythia_core.demo.payments import Payments
from pythia_core.demo.worker import OrderProcessor
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime

__all__ = ["Figures", "Outcome", "Screen", "Shop"]

PARTITIONS = 4
LOOK = 0.01  # seconds between looks at whether it is time to stop
TICK = 0.1  # seconds between pictures


@attrs.frozen
class Figures:
    """What is shown while it runs.

    Args:
        sent: orders in all.
        charged: counted by the payment service.
        at_work: calls under way, counted by it too.
        in_flight: fetched and not finished, as the engine says.
        retries: calls beyond the first of an order.
        dead: dead letters in the broker.
        customers: how many have been served.
    """

    sent: int
    charged: int
    at_work: int
    in_flight: int
    retries: int
    dead: int
    customers: int


class Screen(Protocol):
    """Where it is shown."""

    def say(self, text: str, level: str = "note") -> None:
        """Show a sentence."""

    def show(self, figures: Figures) -> None:
        """Show figures, if it is time."""


@attrs.frozen
class Outcome:
    """What came of it.

    Args:
        checks: every promise, and whether it was kept.
        stop: the stop in the middle.
        end: the stop at the end.
        payments: what the payment service saw.
        seconds: how long both workers worked.
        interrupted: whether it was told to end early.
    """

    checks: Sequence[Check]
    stop: Stop
    end: Stop
    payments: Payments
    seconds: float
    interrupted: bool

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return all(check.holds for check in self.checks)


class Shop:
    """One run of the demonstration.

    Args:
        orders: what is sent.
        seconds: how long both workers may work together.
        screen: where it is shown.
        pause: seconds between the two, to be looked at.
    """

    def __init__(
        self, orders: Sequence[Order], *, seconds: float, screen: Screen, pause: float = 0.5
    ) -> None:
        self.broker = MemoryBroker("demo", partitions=PARTITIONS, retention=len(orders))
        self.payments = Payments(orders)
        self.interrupted = False
        self.orders = orders
        self._seconds = seconds
        self._screen = screen
        self._pause = pause
        self._source = MemoryConsumer(
            TOPIC, consumer_group=GROUP, broker=self.broker, order_scope="partition"
        )
        self._receipts = MemoryProducer(RECEIPTS, broker=self.broker)
        self.counters: Counter[str] = Counter()
        self._stops: list[Stop] = []
        self._worked = 0.0
        self._seen: set[str] = set()  # dead letters that were shown

    async def run(self) -> Outcome:
        """Run all of it."""
        publish(self.orders, self.broker, TOPIC)
        self.broker.group(TOPIC, GROUP, self._source.rules)  # so that it can be looked at from the start
        self._screen.say(f"{len(self.orders):,} orders are in the broker; a worker starts.")
        async with anyio.create_task_group() as group:
            if threading.current_thread() is threading.main_thread():
                await group.start(self._obey_interrupts)
            await self._run_until(self._halfway)
            await self._take_a_look(self._stops[0])
            await self._run_until(self._all_done)
            group.cancel_scope.cancel()
        stop, end = self._stops
        stalled = time.monotonic() - self.payments.last_charge if end.after.waiting else 0.0
        checks = audit(self.orders, self.payments, stop, end, self.counters, stalled)
        return Outcome(checks, stop, end, self.payments, self._worked, self.interrupted)

    async def _run_until(self, over: Callable[[float], bool]) -> None:
        """Run a new worker until ``over`` says so of the seconds worked, and stop it gracefully."""
        runtime = Runtime(
            OrderProcessor(self.payments, source=self._source, sink=self._receipts),
            environ={},
            registry=Registry(),
        )
        began, ended = time.monotonic(), anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(self._work, runtime, ended)
            group.start_soon(self._paint, runtime)
            while not (ended.is_set() or over(self._worked + time.monotonic() - began)):
                with anyio.move_on_after(LOOK):
                    await ended.wait()
            self._stops.append(await self._stop(runtime, ended))
            group.cancel_scope.cancel()
        self._worked += time.monotonic() - began
        self.counters.update(runtime.report()["counters"])

    async def _stop(self, runtime: Runtime, ended: anyio.Event) -> Stop:
        """Stop a worker gracefully, and look at the books before and after."""
        before, at_work, asked = read_books(self.broker), len(self.payments.at_work), time.monotonic()
        runtime.stop("the demonstration asks for it")
        await ended.wait()
        took = time.monotonic() - asked
        self._show(runtime)
        left_running, cut_off = len(self.payments.at_work), self.payments.cut_off
        return Stop(before, read_books(self.broker), at_work, left_running, cut_off, took)

    async def _work(self, runtime: Runtime, ended: anyio.Event) -> None:
        await runtime.run()
        ended.set()

    def _halfway(self, seconds: float) -> bool:
        half = self.payments.charged >= len(self.orders) // 2
        return half or self.interrupted or seconds >= self._seconds / 2

    def _all_done(self, seconds: float) -> bool:
        written = sum(
            log.end for name in (RECEIPTS, TOPIC + DEAD_LETTERS) for log in self.broker.topic(name).logs
        )
        done = written >= len(self.orders)
        return done or self.interrupted or seconds >= self._seconds

    # -- shown -----------------------------------------------------------------------------------------

    async def _take_a_look(self, stop: Stop) -> None:
        self._screen.say(
            f"Halfway it is told to stop, as by SIGTERM: {stop.fetched:,} orders fetched, {stop.at_work} of them at work."
        )
        self._screen.say(
            f"{stop.seconds * 1000:.0f} ms later it has ended: {stop.left_running} at work, "
            f"{len(stop.after.pending):,} held, {len(stop.after.waiting):,} left in the broker.",
            "ok" if stop.clean else "error",
        )
        if not self.interrupted:
            await anyio.sleep(self._pause)
            self._screen.say("A new worker goes on, as after a deployment.")

    async def _paint(self, runtime: Runtime) -> None:
        while True:
            await anyio.sleep(TICK)
            self._show(runtime)

    def _show(self, runtime: Runtime) -> None:
        """Show new dead letters, and the figures."""
        for record in self.broker.dead_letters(TOPIC):
            if record.id not in self._seen:
                self._seen.add(record.id)
                name, why = (str(record.headers[header]) for header in ("pythia-id", "pythia-error-message"))
                self._screen.say(f"{name} is a dead letter: {why}", "warning")
        self._screen.show(self._figures(runtime))

    def _figures(self, runtime: Runtime) -> Figures:
        payments = self.payments
        return Figures(
            sent=len(self.orders),
            charged=payments.charged,
            at_work=len(payments.at_work),
            in_flight=runtime.report()["counters"].get("in_flight", 0),
            retries=payments.retries,
            dead=len(self.broker.dead_letters(TOPIC)),
            customers=len(payments.customers),
        )

    async def _obey_interrupts(self, *, task_status: TaskStatus[None]) -> None:
        """End gracefully at Ctrl-C; a second one is Python's own again and ends it at once."""
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                self.interrupted = True
                self._screen.say("Ctrl-C: stopping gracefully.")
                return
