"""What the supervisor's state machine is told and what it answers: values, so that a history can be kept and replayed."""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = [
    "Action",
    "Asked",
    "Command",
    "Died",
    "Draining",
    "End",
    "Event",
    "Fault",
    "Kill",
    "Level",
    "Loaded",
    "Pin",
    "Report",
    "Say",
    "Scale",
    "Spawn",
    "Tell",
    "Tick",
    "Tired",
]

Command = Literal["stop", "force", "recycle", "pause", "resume"]
Level = Literal["info", "warning", "error"]
Wish = Literal["stop", "roll", "more", "fewer", "pause", "resume"]
Waiting = Literal["", "broker", "itself"]


@attrs.frozen
class Asked:
    """An operator's signal or word; ``stop`` for each single SIGTERM and SIGINT, echoes included."""

    wish: Wish


@attrs.frozen
class Scale:
    """A scaling policy wants so many children, which is within the bounds that the operator set."""

    target: int
    why: str = ""


@attrs.frozen
class Pin:
    """An operator wants so many children whatever a policy says.

    Args:
        target: how many; None gives the number back to the policy, or to what it was before.
        seconds: for how long; None until it is given back.
    """

    target: int | None
    seconds: float | None = None


@attrs.frozen
class Loaded:
    """A child has imported its workers, and from now on may have messages to drain."""

    number: int
    drain_timeout: float = 25.0


@attrs.frozen
class Report:
    """A child's state, each second.

    Args:
        number: which child.
        ready: it consumes.
        waiting_for: what it is not ready for: a ``broker`` that is down, or something it should do ``itself``.
        reasons: the same in words.
        busy: the used share of its slots, 0 to 1.
    """

    number: int
    ready: bool
    waiting_for: Waiting = ""
    reasons: tuple[str, ...] = ()
    busy: float = 0.0


@attrs.frozen
class Tired:
    """A child asks to be recycled: it would drain, end with 75 and be replaced. It goes on until it is told to."""

    number: int
    reason: str = ""


@attrs.frozen
class Draining:
    """A child drains: somebody sent it SIGTERM, it ends by itself, or it does as it was told."""

    number: int
    reason: str = ""


@attrs.frozen
class Fault:
    """A child says why it is about to end. ``hopeless`` means that another start would end the same way."""

    number: int
    text: str
    hopeless: bool = False


@attrs.frozen
class Died:
    """A child has ended; ``status`` is its exit code, or minus the signal that ended it."""

    number: int
    status: int


@attrs.frozen
class Tick:
    """Time has passed. Comes each second, and when :meth:`Machine.wakeup` said so."""


Event = Asked | Scale | Pin | Loaded | Report | Tired | Draining | Fault | Died | Tick


@attrs.frozen
class Spawn:
    """Start a process and call it by this number; its slot is free for as long as it lives."""

    number: int
    slot: int


@attrs.frozen
class Tell:
    """Send a command down a child's pipe."""

    number: int
    command: Command


@attrs.frozen
class Kill:
    """SIGKILL: the child has not ended by its deadline."""

    number: int


@attrs.frozen
class Say:
    """Log a line."""

    level: Level
    text: str


@attrs.frozen
class End:
    """No child is left and none is to come: exit with this code."""

    code: int


Action = Spawn | Tell | Kill | Say | End
