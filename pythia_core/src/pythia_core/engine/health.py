"""What a worker says of its own state: live, ready, and in words why not."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import attrs


class Exit(IntEnum):
    """Exit codes of a worker process."""

    CLEAN = 0
    ERROR = 1
    WATCHDOG = 70
    RECYCLE = 75


State = Literal["running", "cancelled", "parked", "publishing", "held"]

WORDS: dict[State, str] = {
    "running": "running",
    "cancelled": "cancelled and not ended, as a thread never is,",
    "parked": "parked",
    "publishing": "waiting for its outputs to be confirmed",
    "held": "stopping its partition",
}


@attrs.frozen
class Stuck:
    """A message that holds its partition, or its key.

    Args:
        message: its coordinates in words.
        state: ``running``; ``cancelled``, if its handler was and goes on all the same; ``parked``; ``publishing``;
            ``held``, if it can be neither done nor dead-lettered.
        seconds: for how long.
        why: the error after which it waits, or nothing.
    """

    message: str
    state: State
    seconds: float
    why: str = ""

    def __str__(self) -> str:
        why = f", after {self.why}" if self.why else ""
        return f"{self.message} {WORDS[self.state]} for {self.seconds:.0f} s{why}"


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
