"""The auditor of the demonstration: judges what happened by the broker's topics and the payment service's books.

Nothing here asks the engine, but for the last check, which compares the engine's own figures with what was found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import attrs
import orjson

from pythia_core.brokers.memory import MemoryBroker, Record
from pythia_core.demo.orders import ATTEMPTS, Order
from pythia_core.demo.payments import Payments

__all__ = ["GROUP", "RECEIPTS", "TOPIC", "Books", "Check", "Stop", "audit", "read_books"]

TOPIC, RECEIPTS, GROUP = "orders", "receipts", "order-processors"
STALLED = 3.0  # seconds without a charge, while orders wait, that nothing in the plan explains


@attrs.frozen
class Check:
    """One promise, whether it was kept, and in words what was counted."""

    name: str
    holds: bool
    text: str


@attrs.frozen
class Books:
    """What lies in the broker, by order number.

    Args:
        sent: published.
        receipts: written by the worker, in each customer's order.
        dead: dead letters.
        waiting: to be delivered.
        pending: delivered and not settled.
        settled: never delivered again.
        letters: the headers of the dead letters.
    """

    sent: tuple[int, ...]
    receipts: tuple[int, ...]
    dead: tuple[int, ...]
    waiting: tuple[int, ...]
    pending: tuple[int, ...]
    settled: tuple[int, ...]
    letters: tuple[Mapping[str, str], ...]

    @property
    def finished(self) -> list[int]:
        """Orders with a receipt or a dead letter, as often as they have one."""
        return [*self.receipts, *self.dead]


def read_books(broker: MemoryBroker) -> Books:
    """Count what the broker holds."""
    letters = [_texts(record) for record in broker.dead_letters(TOPIC)]
    return Books(
        sent=_numbers(broker.records(TOPIC)),
        receipts=tuple(orjson.loads(record.value)["order"] for record in broker.records(RECEIPTS)),
        dead=tuple(int(headers["pythia-id"].removeprefix("order-")) for headers in letters),
        waiting=_numbers(broker.waiting(TOPIC, GROUP)),
        pending=_numbers(broker.pending(TOPIC, GROUP)),
        settled=_numbers(broker.settled(TOPIC, GROUP)),
        letters=tuple(letters),
    )


def _numbers(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(int(record.id.removeprefix("order-")) for record in records)


def _texts(record: Record) -> Mapping[str, str]:
    return {name: str(value) for name, value in record.headers.items()}


@attrs.frozen
class Stop:
    """What a graceful stop found and left.

    Args:
        before: what lay in the broker when it was asked for.
        after: the same when it was over.
        at_work: calls under way when it was asked for.
        left_running: calls still under way when it was over.
        cut_off: calls that were ever cancelled.
        seconds: how long it took.
    """

    before: Books
    after: Books
    at_work: int
    left_running: int
    cut_off: int
    seconds: float

    @property
    def fetched(self) -> int:
        """Orders that were delivered and not finished when it was asked for."""
        return len({*self.before.pending} - {*self.before.finished})

    @property
    def finished(self) -> int:
        """How many of those were finished before it ended."""
        return len(self.after.finished) - len(self.before.finished)

    @property
    def given_back(self) -> int:
        """How many of those went back to the broker."""
        return self.fetched - self.finished

    @property
    def clean(self) -> bool:
        """Whether everything that was finished was settled, and nothing else."""
        settled = sorted(self.after.settled) == sorted(self.after.finished)
        return settled and not (self.after.pending or self.left_running or self.cut_off)


def audit(
    orders: Sequence[Order],
    payments: Payments,
    stop: Stop,
    end: Stop,
    counters: Mapping[str, int],
    stalled: float = 0.0,
) -> list[Check]:
    """Return every promise and whether it was kept.

    Args:
        orders: the plan.
        payments: what the payment service saw.
        stop: the stop in the middle.
        end: the stop at the end.
        counters: the engine's own, summed over both runs.
        stalled: seconds since the last charge, if orders were left waiting, else 0.
    """
    books = end.after
    return [
        _nothing_lost(books, stalled),
        _nothing_twice(books, payments),
        _in_order(orders, books, payments),
        _retried(orders, books, payments),
        _poison(orders, books),
        _stopped(stop),
        _engine_agrees(books, payments, stop.given_back + end.given_back, counters),
    ]


def _nothing_lost(books: Books, stalled: float) -> Check:
    found = sorted({*books.finished, *books.waiting})
    holds = found == sorted(books.sent) and not books.pending and stalled < STALLED
    left = f" + {len(books.waiting):,} still in the broker" if books.waiting else ""
    late = f"; nothing moved for {stalled:.0f} s" if stalled >= STALLED else ""
    text = (
        f"{len(books.sent):,} orders sent = {len(books.receipts):,} receipts + {len(books.dead)} dead letters"
    )
    return Check("nothing lost", holds, text + left + late)


def _nothing_twice(books: Books, payments: Payments) -> Check:
    twice = len(books.finished) - len(set(books.finished))
    charged_twice = sum(times > 1 for times in payments.charges.values())
    charged = set(payments.charges) == set(books.receipts)
    text = f"{payments.charged:,} charges for {len(books.receipts):,} receipts, each of another order"
    if twice or charged_twice:
        text = f"{twice} orders finished twice, {charged_twice} charged twice"
    return Check("nothing twice", not twice and not charged_twice and charged, text)


def _in_order(orders: Sequence[Order], books: Books, payments: Payments) -> Check:
    faults = [*payments.disorder, *_order_faults(orders, books)]
    customers = len(payments.customers)
    text = (
        f"{customers} customers, each served in the order sent and never two of one at once, "
        f"though up to {payments.most_at_once} orders were at work"
    )
    return Check("order per key", not faults, f"{len(faults)} faults: {faults[0]}" if faults else text)


def _order_faults(orders: Sequence[Order], books: Books) -> Iterator[str]:
    """Yield what is wrong with the sequence of receipts of each customer: a gap is a fault, unless it is a dead letter."""
    plan = {order.number: order for order in orders}
    buried = {(plan[number].customer, plan[number].nth) for number in books.dead}
    expected: dict[str, int] = defaultdict(lambda: 1)
    for number in books.receipts:
        order = plan[number]
        while (order.customer, expected[order.customer]) in buried:
            expected[order.customer] += 1
        if order.nth != expected[order.customer]:
            yield f"{order.customer}: receipt of its order {order.nth} where {expected[order.customer]} was due"
        expected[order.customer] = order.nth + 1


def _retried(orders: Sequence[Order], books: Books, payments: Payments) -> Check:
    done = set(books.receipts)
    failing = [order for order in orders if order.failures and order.number in done]
    wrong = [
        order.number
        for order in orders
        if order.number in done and payments.calls[order.number] != order.failures + 1
    ]
    again = sum(order.failures for order in failing)
    text = (
        f"{len(failing):,} orders failed at first and were tried again, {again:,} times in all, until charged"
    )
    if wrong:
        text = f"{len(wrong)} orders were not called as often as they should, the first is {wrong[0]}"
    return Check("failures retried", not wrong, text)


def _poison(orders: Sequence[Order], books: Books) -> Check:
    poison = {order.number: order for order in orders if order.fate != "fine"}
    dead = set(books.dead)
    strangers = dead - set(poison)
    missed = set(poison) - dead - set(books.waiting)
    attempts = {
        number: headers["pythia-attempts"] for number, headers in zip(books.dead, books.letters, strict=True)
    }
    miscounted = [
        number
        for number in dead & set(poison)
        if attempts[number] != str(ATTEMPTS if poison[number].fate == "refused" else 1)
    ]
    parts = [_say(poison[number], attempts[number]) for number in books.dead if number in poison]
    text = "; ".join(parts) or "none was reached"
    if strangers or missed or miscounted:
        text = f"wrongly dead: {sorted(strangers)}, missed: {sorted(missed)}, miscounted: {miscounted}"
    return Check("poison put aside", not (strangers or missed or miscounted), text)


def _say(order: Order, attempts: str) -> str:
    if order.fate == "unreadable":
        return f"order {order.number:,} is no JSON, so it never reached process()"
    return f"order {order.number:,} was refused {attempts} times"


def _stopped(stop: Stop) -> Check:
    after = stop.after
    text = (
        f"{stop.fetched:,} orders were fetched: {stop.finished} under way were finished, {stop.given_back:,} given back, "
        f"all in {stop.seconds * 1000:.0f} ms; the next worker repeated none"
    )
    if not stop.clean:
        text = (
            f"after it {len(after.pending)} were held, {stop.left_running} at work, {stop.cut_off} cut off, "
            f"and {len(after.settled):,} settled of {len(after.finished):,} finished"
        )
    return Check("graceful stop", stop.clean, text)


def _engine_agrees(books: Books, payments: Payments, given_back: int, counters: Mapping[str, int]) -> Check:
    unreadable = len(books.dead) - sum("CardRefused" in headers["pythia-error"] for headers in books.letters)
    found = {
        "outputs": len(books.finished),
        "failures": payments.failed + unreadable,
        "dead_lettered": len(books.dead),
    }
    wrong = [
        f"{name} is {counters.get(name)}, not {value}"
        for name, value in found.items()
        if counters.get(name) != value
    ]
    # What was delivered between the look at the books and the stop went back too, so the books see no more than was
    # released; and whatever the engine received and did not finish, it released.
    released, received = counters.get("released", 0), counters.get("received", 0)
    if released < given_back or released != received - len(books.finished):
        wrong.append(f"released is {released}, of {received} received; {given_back} were seen to go back")
    found["released"] = released
    text = ", ".join(f"{value:,} {name.replace('_', '-')}" for name, value in found.items())
    return Check("the engine agrees", not wrong, "; ".join(wrong) or text)
