"""What becomes of a message after its handler: done, written on, parked, dead-lettered, or a partition stopped.

The word is AMQP's: the disposition of a delivery. Invariants:

- D1. A message is disposed of once: completed, parked, given back, or held; a parked one comes back for another handler.
- D2. A dead letter is confirmed before its message is completed.
- D3. Without a place for dead letters, a message that would be one stops its partition and stays unsettled.
- D4. A message whose ledger is closed is only taken note of: nothing is written for it, nothing settled.
- D5. A message whose handler is cut off because its partition goes counts no attempt, and is given back as it ends.
- D6. What the brake does not hold against a message is tried again, whatever its attempts, and counts none (K3).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from pythia_core.contracts.message import Message
from pythia_core.contracts.middleware import Middleware
from pythia_core.contracts.sink import Output, Sink
from pythia_core.engine.brake import Brake
from pythia_core.engine.dead_letters import dead_letter
from pythia_core.engine.ledger import RELEASED, Ledger
from pythia_core.engine.outcomes import (
    AT_ONCE,
    Bury,
    Failure,
    MessageTooLarge,
    Revoked,
    decide,
    note_failure,
    suspect,
)
from pythia_core.engine.parking import Parking
from pythia_core.engine.publisher import Publisher
from pythia_core.engine.scheduler import Scheduler
from pythia_core.engine.stats import Stats
from pythia_core.engine.token_ledger import TokenLedger
from pythia_core.errors import Retry, Skip, WriteError
from pythia_core.settings import RetryPolicy

log = logging.getLogger("pythia.disposition")


@attrs.frozen
class Origin:
    """Where messages come from, in the words of a dead letter's headers."""

    source: str
    group: str
    worker: str


class Disposition:
    """Disposes of messages.

    Args:
        scheduler: completes them.
        parking: keeps those that are tried again.
        publisher: writes outputs and dead letters.
        brake: says which failures are not the messages' own.
        stats: counters shared with the rest of the engine.
        retry: how often and when a failed message is tried again.
        origin: for dead letters.
        sink: where returned values go; None drops them.
        dead_letters: where dead letters go; None stops the partition instead.
        undertakers: middlewares that have a word about how a dead letter looks.
        buried: called with a message and its last error when its dead letter is confirmed.
        stopped: called with the ledger of a partition that may not go on.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        parking: Parking,
        publisher: Publisher,
        brake: Brake,
        stats: Stats,
        *,
        retry: RetryPolicy,
        origin: Origin,
        sink: Sink | None,
        dead_letters: Sink | None,
        undertakers: Sequence[Middleware] = (),
        buried: Callable[[Message[Any], BaseException], None],
        stopped: Callable[[Ledger], None],
    ) -> None:
        self._scheduler = scheduler
        self._parking = parking
        self._publisher = publisher
        self._brake = brake
        self._stats = stats
        self._retry = retry
        self._origin = origin
        self._sink = sink
        self._dead_letters = dead_letters
        self._undertakers = undertakers
        self._buried = buried
        self._stopped = stopped
        self._held: list[Message[Any]] = []  # messages that stopped their partition

    def failed(self, message: Message[Any], error: BaseException) -> None:
        """Decide what becomes of a message whose handler raised."""
        if message._ledger.closed:
            self._scheduler.orphan_ended(message)
            return
        if isinstance(error, Revoked):
            self._give_back(message)
            return
        if isinstance(error, Skip):
            self._stats.skipped += 1
            self._brake.ended_otherwise(message)
            self._scheduler.complete(message)
            return
        if not isinstance(error, AT_ONCE) and self._brake.failed(message):
            self._put_off(message, error)
            return
        failure = self._note(message, error)
        decision = decide(failure, self._retry)
        if isinstance(decision, Bury):
            self._brake.ended_otherwise(message)
            self._bury(message, decision.error)
        else:
            self._park(message, decision.delay, error, f"attempt {failure.attempts} failed")

    def _put_off(self, message: Message[Any], error: BaseException) -> None:
        """Try a message again whose failure is not its own."""
        self._stats.failures += 1
        suspect(message, error, time.time()).error = error
        asked = error.delay if isinstance(error, Retry) else None
        delay = self._brake.delay if asked is None else asked
        self._park(message, delay, error, "failed while the brake is engaged")

    def _note(self, message: Message[Any], error: BaseException) -> Failure:
        self._stats.failures += 1
        failure = note_failure(message, error, time.time())
        message._ledger.note_attempts(message, failure.attempts)
        return failure

    def _park(self, message: Message[Any], delay: float, error: BaseException, what: str) -> None:
        log.info("%r: %s, again in %.2f s: %s: %s", message, what, delay, type(error).__name__, error)
        if message._ledger.draining:
            self._give_back(message)
            return
        self._stats.retried += 1
        self._parking.park(message, delay)

    def _give_back(self, message: Message[Any]) -> None:
        """Release a message that failed, or was cut off, while its partition drains: whoever gets it next tries again."""
        if isinstance(message._ledger, TokenLedger):
            message._ledger.mark(message, RELEASED)
        self._stats.released += 1
        self._scheduler.withdraw(message)

    def voided(self, message: Message[Any], error: BaseException | None = None) -> None:
        """Let a message of a batch wait again: an earlier one of its key failed, or the batch ran too long.

        Args:
            message: whose result, if it has one, is ignored; no attempt is counted.
            error: why it is to run alone from now on; None if it need not.
        """
        if message._ledger.closed:
            self._scheduler.orphan_ended(message)
            return
        if error is not None:
            suspect(message, error, time.time())
        if message._ledger.draining:
            self._give_back(message)
        else:
            self._scheduler.requeue(message)

    def returned(self, message: Message[Any], result: Any) -> None:
        """Write what a handler returned; the message is complete when all of it is confirmed."""
        outputs = list(self._outputs(result))
        if not outputs or message._ledger.closed:
            self._scheduler.complete(message)
        else:
            self._publisher.put(message, outputs, done=self._scheduler.complete, refused=self._output_refused)

    def _output_refused(self, message: Message[Any], refusal: WriteError) -> None:
        """Dead-letter a message of which an output can never be written: its handler would only return it again."""
        self._note(message, refusal)
        self._bury(message, refusal)

    def _outputs(self, result: Any) -> Sequence[Output]:
        """Return what a result means: a list of outputs and nothing else fans out, any other value is one body."""
        many = isinstance(result, list | tuple) and all(isinstance(item, Output) for item in result)
        outputs = result if many else [result if isinstance(result, Output) else Output(None, result)]
        return [
            output
            if output.sink is not None
            else Output(self._sink, output.value, key=output.key, headers=output.headers, delay=output.delay)
            for output in outputs
            if output.sink is not None or self._sink is not None
        ]

    def give_up(self, message: Message[Any], error: Exception) -> None:
        """Dead-letter a message that was taken out of the parking place, though it has attempts left."""
        message._failure.error = error
        self._brake.ended_otherwise(message)
        self._bury(message, error)

    # -- dead letters --------------------------------------------------------------------------------------------

    def _bury(self, message: Message[Any], error: BaseException) -> None:
        if self._dead_letters is None:
            self._stop_partition(
                message, f"{message!r} failed for good and there is no place for dead letters"
            )
            return
        self._write_dead_letter(message, error, isinstance(error, MessageTooLarge), self._dead_letter_refused)

    def _write_dead_letter(
        self,
        message: Message[Any],
        error: BaseException,
        reference: bool,
        refused: Callable[[Message[Any], WriteError], None],
    ) -> None:
        assert self._dead_letters is not None
        output = dead_letter(
            message,
            error,
            self._dead_letters,
            source=self._origin.source,
            group=self._origin.group,
            worker=self._origin.worker,
            reference=reference,
        )
        for layer in self._undertakers:
            output = _prepared(layer, output, message, error)

        def buried(message: Message[Any]) -> None:
            self._stats.dead_lettered += 1
            log.error("%r is a dead letter: %s: %s", message, type(error).__name__, error)
            self._buried(message, error)
            self._scheduler.complete(message)

        self._publisher.put(message, [output], done=buried, refused=refused)

    def _dead_letter_refused(self, message: Message[Any], refusal: WriteError) -> None:
        """Write a truncated reference instead of a dead letter that can never be written whole."""
        error = message._failure.error
        log.error("%r: its dead letter was refused, writing a reference to it: %s", message, refusal)
        self._write_dead_letter(message, error, True, self._reference_refused)

    def _reference_refused(self, message: Message[Any], refusal: WriteError) -> None:
        self._stop_partition(message, f"{message!r}: its dead letter cannot be written: {refusal}")

    def _stop_partition(self, message: Message[Any], reason: str) -> None:
        ledger = message._ledger
        if ledger.closed:
            self._scheduler.orphan_ended(message)
            return
        if ledger.draining:
            self._give_back(message)
            return
        log.error("partition %s stops: %s", ledger.partition, reason)
        ledger.stopped = reason
        self._held.append(message)
        self._stopped(ledger)

    # -- messages that stopped their partition -------------------------------------------------------------------

    @property
    def held(self) -> Sequence[Message[Any]]:
        """The messages that stopped their partition; they are neither started nor settled."""
        return self._held

    def take_held(self, wanted: Callable[[Message[Any]], bool]) -> list[Message[Any]]:
        """Remove and return the held messages that are ``wanted``."""
        taken = [message for message in self._held if wanted(message)]
        self._held = [message for message in self._held if not wanted(message)]
        return taken


def _prepared(layer: Middleware, letter: Output, message: Message[Any], error: BaseException) -> Output:
    """Return what a middleware makes of a dead letter; where it is to go is not its to say."""
    try:
        return attrs.evolve(layer.bury(letter, message, error), sink=letter.sink)
    except Exception:
        log.exception(
            "%s.bury raised, so the dead letter of %r goes without it", type(layer).__name__, message
        )
        return letter
