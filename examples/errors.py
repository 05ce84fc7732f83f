"""Every error of process() is reported to Sentry, with the message it was about; what the message decides is not.

Needs `pip install sentry-sdk`. Run it with `SENTRY_DSN=... pythia run examples/errors.py`; without one nothing is sent.
"""

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.logging import ignore_logger

from pythia import Message, Reject, Retry, Skip, Worker
from pythia.brokers.memory import MemoryConsumer, MemoryProducer
from pythia.config import RetryPolicy, WorkerConfig
from pythia.middleware import Handler, Middleware

Invoice = dict[str, Any]


class ReportErrors(Middleware):
    def wrap(self, handler: Handler) -> Handler:
        sentry_sdk.init()  # reads SENTRY_DSN
        ignore_logger("pythia.disposition")  # what it logs as errors are these again, with less about them

        async def reported(message: Message[Invoice]) -> Any:
            try:
                return await handler(message)
            except (Reject, Retry, Skip):
                raise  # no error: the handler has decided
            except Exception as error:
                with sentry_sdk.new_scope() as scope:
                    scope.set_tag("attempt", str(message.attempt))
                    scope.set_context(
                        "message", {"id": message.id, "key": message.key}
                    )  # no body: it may be secret
                    scope.capture_exception(error)
                raise  # what becomes of the message is the engine's business

        return reported


class Invoices(Worker[Invoice]):
    source = MemoryConsumer("invoices")
    inbox = MemoryProducer("invoices")
    config = WorkerConfig(middleware=[ReportErrors()], retry=RetryPolicy(attempts=2, base=0.1))

    async def startup(self) -> None:
        for total in ("10.00", "ten"):
            await self.inbox.send({"total": total}, key=total)

    async def process(self, message: Message[Invoice]) -> None:
        print(f"{float(message.body['total']):.2f} paid", flush=True)
