"""What a failure means: try again and when, or dead-letter now. Pure, so that it can be read as a table."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import attrs

from pythia_core.backoff import full_jitter
from pythia_core.contracts.message import Message
from pythia_core.errors import DecodeError, Reject, Retry
from pythia_core.settings import RetryPolicy


class HandlerTimeout(TimeoutError):
    """A handler ran for longer than ``handler_timeout`` and was cancelled."""


class Revoked(Exception):
    """A handler was cancelled because its partition went elsewhere; the message is delivered there again."""


class MessageTooLarge(Exception):
    """A body is larger than ``limits.message_bytes``; it was not handed to the handler."""


class FailedEarlier(Exception):
    """A message failed in another process, which left only the number of its attempts."""


class Crashed(Exception):
    """A message's process ended again and again while it was at work, at last with nothing else beside it."""


@attrs.define
class Failure:
    """What is known of a message's failed attempts.

    Args:
        attempts: how many failed.
        first: epoch seconds of the first failure, for the dead letter.
        last: epoch seconds of the last failure.
        error: the last error.
        alone: True if it may end its process, and so runs with nothing beside it, also when it is tried again.
    """

    attempts: int
    first: float
    last: float
    error: BaseException
    alone: bool = False


@attrs.frozen
class Park:
    """Run it again after ``delay`` seconds."""

    delay: float


@attrs.frozen
class Bury:
    """Write it to the dead letters, with ``error`` as the reason."""

    error: BaseException


Decision = Park | Bury

AT_ONCE = (Reject, DecodeError, MessageTooLarge, Crashed)


def suspect(message: Message[Any], error: BaseException, wall: float) -> Failure:
    """Note that a message may be to blame for ``error``, which counts no attempt; return what is known of its failures."""
    failure: Failure | None = getattr(message, "_failure", None)
    if failure is None:
        failure = message._failure = Failure(0, wall, wall, error)
    return failure


def note_failure(message: Message[Any], error: BaseException, wall: float) -> Failure:
    """Write a failed attempt down on the message; return all that is known of its failures."""
    failure = suspect(message, error, wall)
    failure.attempts += 1
    failure.last = wall
    failure.error = error
    return failure


def restore_failures(message: Message[Any], attempts: int) -> None:
    """Write down on a message the failed attempts that a note says it has had elsewhere."""
    wall = time.time()  # the true times are not known; the last one is overwritten by the next failure
    message._failure = Failure(attempts, wall, wall, FailedEarlier(f"it failed {attempts} times before"))


def decide(failure: Failure, policy: RetryPolicy, uniform: Callable[[], float] = random.random) -> Decision:
    """Return what becomes of a message whose last attempt failed with ``failure.error``.

    Args:
        failure: its failures, the last one included.
        policy: how many attempts there are, and the delays between them.
        uniform: returns a float in [0, 1), for the jitter.
    """
    error = failure.error
    if isinstance(error, AT_ONCE):
        return Bury(error)
    if failure.attempts >= policy.attempts:
        return Bury(error)
    if isinstance(error, Retry) and error.delay is not None:
        return Park(error.delay)
    return Park(full_jitter(failure.attempts, policy.base, policy.factor, policy.cap, uniform))
