"""The orders of the demonstration, fixed in advance: who orders what, which charges fail and how often.

They stand apart because the auditor reads them too: what should come out is known before anything runs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import attrs

from pythia_core.brokers.memory import MemoryBroker

__all__ = ["ATTEMPTS", "Order", "make_orders", "publish"]

ATTEMPTS = 4  # of each message, so that two failures in a row are survived and four are not
PER_CUSTOMER = 40
WORK = (0.002, 0.008)  # seconds that a charge takes, as a call over a network would

Fate = Literal["fine", "refused", "unreadable"]


@attrs.frozen
class Order:
    """One order.

    Args:
        number: from 1, in the order in which they are sent.
        customer: its key.
        nth: which order of that customer it is, from 1.
        work: seconds that charging it takes.
        failures: how many charges fail before one succeeds.
        fate: ``fine``, ``refused`` by the payment service for ever, or ``unreadable``: its body is no JSON.
    """

    number: int
    customer: str
    nth: int
    work: float
    failures: int = 0
    fate: Fate = "fine"

    @property
    def body(self) -> Any:
        """What is sent."""
        if self.fate == "unreadable":
            return b'{"number": ' + str(self.number).encode() + b', "amount": '  # cut off on its way
        return {"number": self.number, "nth": self.nth, "amount": 5 + self.number % 90}


def make_orders(count: int, *, seed: int = 7) -> list[Order]:
    """Return ``count`` orders: 1 in 100 fails once or twice, one is refused for ever, one is unreadable."""
    chance = random.Random(seed)
    names = [f"customer-{number:03}" for number in range(1, max(count // PER_CUSTOMER, 5) + 1)]
    placed = dict.fromkeys(names, 0)
    fates: dict[int, Fate] = {count // 8 + 1: "refused", count // 4 + 1: "unreadable"}
    orders = []
    for number in range(1, count + 1):
        customer = chance.choice(names)
        placed[customer] += 1
        fate = fates.get(number, "fine")
        failures = chance.choice((1, 2)) if fate == "fine" and number % 100 == 50 else 0
        orders.append(Order(number, customer, placed[customer], chance.uniform(*WORK), failures, fate))
    return orders


def publish(orders: Sequence[Order], broker: MemoryBroker, topic: str) -> None:
    """Send all orders, keyed by customer."""
    for order in orders:
        broker.publish(topic, order.body, key=order.customer, id=f"order-{order.number}")
