"""The payment service of the demonstration: what the worker calls, and a witness that knows nothing of the engine.

It counts what really happened on the far side of ``process``: calls, failures, charges, and whether two orders of one
customer were ever at work at once or out of turn.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import anyio

from pythia_core.demo.orders import Order

__all__ = ["CardRefused", "PaymentServiceDown", "Payments"]


class PaymentServiceDown(ConnectionError):
    """The kind of failure that passes: the next attempt may succeed."""


class CardRefused(ValueError):
    """The kind of failure that never passes."""


class Payments:
    """Charges orders, failing as each order's plan says.

    Args:
        orders: the plan.
    """

    def __init__(self, orders: Iterable[Order]) -> None:
        self._orders = {order.number: order for order in orders}
        self.called = 0  # calls in all
        self.calls: Counter[int] = Counter()  # by order, each attempt counted
        self.charges: Counter[int] = Counter()
        self.charged = 0
        self.failed = 0  # calls that ended with an error
        self.cut_off = 0  # calls that were cancelled while at work
        self.most_at_once = 0
        self.at_work: dict[int, Order] = {}
        self.customers: set[str] = set()
        self.disorder: list[str] = []  # in words, whatever should never be
        self.last_charge = time.monotonic()
        self._latest: dict[str, int] = {}  # the last order begun, of each customer

    @property
    def retries(self) -> int:
        """Calls beyond the first of an order."""
        return self.called - len(self.calls)

    async def charge(self, number: int, customer: str) -> None:
        """Charge an order.

        Raises:
            PaymentServiceDown: as often as the order's plan says.
            CardRefused: always, for an order that is to be refused.
        """
        order = self._orders[number]
        with self._watched(order):
            await anyio.sleep(order.work)
            if order.fate == "refused":
                raise CardRefused(f"the card of {customer} is refused")
            if self.calls[number] <= order.failures:
                raise PaymentServiceDown("503 from the payment service")
            self.charges[number] += 1
            self.charged += 1
            self.last_charge = time.monotonic()

    @contextmanager
    def _watched(self, order: Order) -> Iterator[None]:
        self._look(order)
        self.called += 1
        self.calls[order.number] += 1
        self.customers.add(order.customer)
        self.at_work[order.number] = order
        self.most_at_once = max(self.most_at_once, len(self.at_work))
        try:
            yield
        except (PaymentServiceDown, CardRefused):
            self.failed += 1
            raise
        except BaseException:
            self.cut_off += 1
            raise
        finally:
            self.at_work.pop(order.number, None)

    def _look(self, order: Order) -> None:
        """Note whatever breaks the order of a customer."""
        for other in self.at_work.values():
            if other.customer == order.customer:
                self.disorder.append(f"orders {other.number} and {order.number} of {order.customer} at once")
        latest = self._latest.get(order.customer, 0)
        if order.nth < latest:
            self.disorder.append(f"order {order.nth} of {order.customer} after its order {latest}")
        self._latest[order.customer] = max(order.nth, latest)
