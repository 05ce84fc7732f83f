"""How much memory this container may use, and whether the workers asked for fit into it."""

from __future__ import annotations

from pathlib import Path

from pythia_core.errors import ConfigError

__all__ = ["container_limit", "refuse_too_much"]

MIB = 1 << 20
SHARE = 0.85
"""Of a container's memory; the kernel kills at the whole, and page cache, threads and the allocator need their part."""

SUPERVISOR_MB = 64

_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT = 1 << 60  # version 1 writes a number near 2**63 for "none"


def container_limit() -> int | None:
    """Return the memory limit of this process's control group in bytes, or None if there is none."""
    for name in _FILES:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None
    return None


def refuse_too_much(max_memory_mb: int | None, processes: int, limit: int | None = None) -> None:
    """Do nothing if so many processes of so much memory fit.

    Args:
        max_memory_mb: of each process, in MiB; None is not checked.
        processes: how many.
        limit: bytes; the container's own unless given.

    Raises:
        ConfigError: if they do not: the kernel would kill them before they can make room for themselves.
    """
    limit = container_limit() if limit is None else limit
    if max_memory_mb is None or limit is None:
        return
    needed = processes * max_memory_mb + SUPERVISOR_MB
    allowed = int(limit * SHARE / MIB)
    if needed > allowed:
        raise ConfigError(
            f"{processes} process(es) of max_memory_mb={max_memory_mb} and {SUPERVISOR_MB} for their supervisor are "
            f"{needed} MiB, but this container may use {limit // MIB}, of which 85 % are {allowed}; lower one of the "
            "two, or give the container more"
        )
