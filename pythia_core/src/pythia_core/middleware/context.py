"""What is being worked on, in every line of log that the handler writes, and in the headers of what it returns.

A correlation id is what all messages that follow from one event have in common. It comes with the message, or begins
here with the message's own id, and goes on with its outputs.
"""

from __future__ import annotations

from typing import Any

import attrs

from pythia_core.contracts import Handler, Message, Middleware, Output, Phase
from pythia_core.logs import context

__all__ = ["LogContext"]


@attrs.define(eq=False)
class LogContext(Middleware):
    """Put the message's identity into each line of log, and hand its correlation id on.

    The lines get ``message_id``, ``correlation_id``, ``partition``, ``position`` and ``attempt``; a batch gets the
    first and the number of its messages. Outputs that the handler returns get the header, unless they have one.

    Args:
        header: the name of the header that carries the correlation id.
        hand_on: whether outputs get it.

    Example:
        ::

            config = WorkerConfig(middleware=[LogContext()], log_format="json")
    """

    header: str = "correlation-id"
    hand_on: bool = True

    phase = Phase.TRACE

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that is surrounded by what its lines of log say."""

        async def told(message: Any) -> Any:
            if isinstance(message, list):
                with context(batch=len(message), **self._describe(message[0])):
                    return await handler(message)
            said = self._describe(message)
            with context(**said):
                result = await handler(message)
            return result if result is None or not self.hand_on else self._handed_on(result, said)

        return told

    def _describe(self, message: Message[Any]) -> dict[str, Any]:
        given: Any = message.headers.get(self.header)
        correlation = given.decode("utf-8", "replace") if isinstance(given, bytes) else given
        return {
            "message_id": message.id,
            "correlation_id": correlation or message.id,
            "partition": message.partition,
            "position": message.position,
            "attempt": message.attempt,
        }

    def _handed_on(self, result: Any, said: dict[str, Any]) -> Any:
        many = isinstance(result, list | tuple) and all(isinstance(item, Output) for item in result)
        outputs = result if many else [result if isinstance(result, Output) else Output(None, result)]
        return [output.with_header(self.header, str(said["correlation_id"])) for output in outputs]
