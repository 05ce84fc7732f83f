"""Whether so many processes fit into the memory this container may use; asked before they are started, not after.

It reads the limit of the control group, since a container's ``/proc/meminfo`` is the host's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pythia_core.control_groups import groups

__all__ = ["memory_fault", "memory_limit"]

SHARE = 0.85  # of the limit: page cache, libraries' own memory and fragmentation take the rest
SUPERVISOR_MB = 64  # an interpreter with our modules, measured at 30 to 45 MiB, and room for it
MIB = 1 << 20
UNLIMITED = 1 << 60  # version 1 writes "no limit" as a number near 2**63


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the memory limit of this process's control group in bytes, or None if there is none.

    The strictest of the group and those above it counts; both versions of control groups are read.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    return min(_limits(root), default=None)


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits that are set, from this process's group upwards."""
    for group in groups("memory", root):
        limit = group.number("memory.max" if group.unified else "memory.limit_in_bytes")
        if limit is not None and limit < UNLIMITED:
            yield limit


def memory_fault(max_memory_mb: int | None, processes: int, limit: int | None) -> str | None:
    """Return why so many processes do not fit, or None if they do or it cannot be known.

    The rule: ``processes * max_memory_mb + 64 <= 0.85 * limit``, in MiB.

    Args:
        max_memory_mb: what each process may grow to before it is replaced.
        processes: how many there may be.
        limit: of the control group, in bytes.
    """
    if max_memory_mb is None or limit is None:
        return None
    room = SHARE * limit / MIB
    need = processes * max_memory_mb + SUPERVISOR_MB
    if need <= room:
        return None
    fitting = max(int((room - SUPERVISOR_MB) // processes), 0)
    return (
        f"{processes} x max_memory_mb {max_memory_mb} + {SUPERVISOR_MB} for the supervisor is {need} MiB, more than "
        f"{SHARE:.0%} of the {limit // MIB} MiB this container may use ({room:.0f} MiB); lower max_memory_mb to "
        f"{fitting}, start fewer processes, or raise the container's limit"
    )
