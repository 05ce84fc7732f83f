"""Every error Pythia raises itself, in one tree, so that a caller can catch exactly what it means to handle.

A message says what happened, which value it was, what was allowed, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "BatchError",
    "BrokenProcess",
    "ConfigError",
    "DecodeError",
    "NotOpenError",
    "PluginError",
    "PythiaError",
    "Reject",
    "Retry",
    "Skip",
    "SubscriptionLost",
    "WriteError",
]

from collections.abc import Mapping


class PythiaError(Exception):
    """The root of all errors that Pythia raises."""


class ConfigError(PythiaError):
    """A setting is missing, unknown, or disagrees with another; the text names field, value and what is allowed."""


class PluginError(PythiaError):
    """A plugin cannot be loaded, or two claim one name; the text names distribution and version."""


class DecodeError(PythiaError):
    """A body cannot be decoded. Such a message is dead-lettered at once: trying again would not help."""


class BrokenProcess(PythiaError):
    """The process that did offloaded work has died: killed, out of memory, or crashed in native code."""


class NotOpenError(PythiaError):
    """A resource was used before ``open()`` or after ``aclose()``."""


class SubscriptionLost(PythiaError):
    """A subscription ended for a reason the engine can mend by subscribing anew, with backoff."""


class WriteError(PythiaError):
    """A sink could not confirm an output.

    Args:
        text: what happened.
        permanent: True if the same output can never be written there (too large, unencodable, refused by schema).
    """

    def __init__(self, text: str, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent


class Outcome(Exception):
    """What a handler raises to decide about its message. Do not catch these in a middleware."""


class Retry(Outcome):
    """Raise from ``process`` to have this message delivered again after a delay.

    Args:
        delay: seconds until the next attempt; None leaves it to the retry policy. Attempts count as usual.
        reason: a short text for logs and dead letters.
    """

    def __init__(self, delay: float | None = None, reason: str = "") -> None:
        super().__init__(reason or "retry requested")
        self.delay = delay


class Reject(Outcome):
    """Raise from ``process`` to dead-letter this message now, without another attempt."""

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)


class Skip(Outcome):
    """Raise from ``process`` to settle this message as done though no work was done for it."""

    def __init__(self, reason: str = "skipped") -> None:
        super().__init__(reason)


class BatchError(PythiaError):
    """Raise from ``process_batch`` to say which messages of the batch failed.

    Args:
        errors: exception by index into the batch; a Retry, Reject or Skip means what it means in ``process``. Indexes
            that are not named are done. With ordering, a failed index also voids the later indexes of its key, whether
            named or not: they wait behind it and run again, without counting an attempt. A Skip voids nothing.
    """

    def __init__(self, errors: Mapping[int, BaseException]) -> None:
        super().__init__(f"{len(errors)} message(s) of the batch failed")
        self.errors = dict(errors)
