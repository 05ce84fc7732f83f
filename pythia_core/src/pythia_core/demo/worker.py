"""The worker of the demonstration, as any user would write it."""

from __future__ import annotations

from typing import Any

from pythia_core.config import WorkerConfig
from pythia_core.contracts import Message, Output
from pythia_core.demo.orders import ATTEMPTS
from pythia_core.demo.payments import Payments
from pythia_core.settings import RetryPolicy
from pythia_core.worker import Worker

__all__ = ["OrderProcessor"]


class OrderProcessor(Worker[dict[str, Any]]):
    """Charges each order and writes a receipt."""

    config = WorkerConfig(
        max_concurrent_tasks=20, retry=RetryPolicy(attempts=ATTEMPTS, base=0.1, factor=2, cap=1)
    )

    def __init__(self, payments: Payments, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.payments = payments

    async def process(self, message: Message[dict[str, Any]]) -> Output:
        """Charge one order; its receipt is written before it is acknowledged."""
        order, customer = message.body, str(message.key)
        await self.payments.charge(order["number"], customer)
        return Output(self.sink, {"order": order["number"]}, key=customer)
