"""What a worker says of its own state: live, ready, and in words why not."""

from __future__ import annotations

from enum import IntEnum

import attrs


class Exit(IntEnum):
    """Exit codes of a worker process."""

    CLEAN = 0
    ERROR = 1
    WATCHDOG = 70
    RECYCLE = 75


@attrs.frozen
class Stuck:
    """A message that holds its partition.

    Args:
        message: its coordinates in words.
        state: ``running`` or ``parked``.
        seconds: for how long.
    """

    message: str
    state: str
    seconds: float


@attrs.frozen
class Health:
    """The state of one worker.

    Args:
        live: False only if restarting the process would help.
        ready: connected and not draining.
        reasons: why not ready, and why intake is stopped, one short sentence each.
        stuck: messages that hold up their partition, longest first.
    """

    live: bool
    ready: bool
    reasons: tuple[str, ...] = ()
    stuck: tuple[Stuck, ...] = ()
