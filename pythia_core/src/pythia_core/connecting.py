"""Tries to connect until it works: a broker that is down is no reason to end, and what can never work is."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import anyio

from pythia_core.backoff import full_jitter
from pythia_core.errors import ConfigError, PythiaError, SubscriptionLost, WriteError

__all__ = ["persist"]

log = logging.getLogger("pythia.worker")

CONNECT_SECONDS = 10.0  # for one attempt
RETRY_BASE, RETRY_FACTOR, RETRY_CAP = 0.5, 2.0, 10.0  # seconds between attempts

MISTAKES = (TypeError, AttributeError, NameError, ImportError, AssertionError, NotImplementedError)
"""What a mistake in code raises: trying again would only repeat it. Any other error may be a broker that is down."""

Step = Callable[[], Awaitable[None]]


async def persist(what: str, attempt: Step, *, say: Callable[[str], None], undo: Step | None = None) -> None:
    """Return once ``attempt`` has worked, which may take for ever.

    Args:
        what: names it in words: ``opening KafkaProducer``.
        attempt: connects; it has 10 s.
        say: told what is being waited for, and after a failure why.
        undo: called after an attempt that failed.

    Raises:
        ConfigError: if it was refused for good.
        Exception: if it is a mistake in code.
    """
    failures = 0
    while True:
        say(what)
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                return await attempt()
        except Exception as error:
            why = str(error) or type(error).__name__
            _refuse(what, error, why)
        failures += 1
        delay = full_jitter(failures, RETRY_BASE, RETRY_FACTOR, RETRY_CAP, random.random)
        say(f"{what}: {why}")
        log.warning("%s failed, again in %.1f s: %s", what, delay, why)
        if undo is not None:
            await _undo(undo)
        await anyio.sleep(delay)


def _refuse(what: str, error: Exception, why: str) -> None:
    """Raise what is hopeless."""
    if isinstance(error, WriteError) and error.permanent:
        raise ConfigError(f"{what}: {why}") from error
    if isinstance(error, WriteError | SubscriptionLost):
        return
    if isinstance(error, (PythiaError, *MISTAKES)):
        raise error


async def _undo(undo: Step) -> None:
    with anyio.move_on_after(CONNECT_SECONDS):
        try:
            await undo()
        except Exception as error:
            log.debug("closing after a failed attempt failed too: %s", error)
