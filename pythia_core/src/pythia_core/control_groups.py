"""The control groups that this process is in: where a container's bounds are written, since ``/proc`` shows the host's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["Group", "groups", "lines"]


@attrs.frozen
class Group:
    """A group's folder.

    Args:
        folder: where its files are.
        unified: True for version 2, which has other files than version 1.
    """

    folder: Path
    unified: bool

    def number(self, name: str) -> int | None:
        """Return what a file of it says, or None if it is not there or no number."""
        text = "".join(lines(self.folder / name)).strip()
        return int(text) if text.lstrip("-").isdigit() else None


def groups(controller: str, root: Path = Path("/")) -> Iterator[Group]:
    """Yield this process's groups for a controller, from its own upwards.

    Args:
        controller: such as ``memory``.
        root: where ``proc`` and ``sys`` are.
    """
    mounted = root / "sys/fs/cgroup"
    for line in lines(root / "proc/self/cgroup"):
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mounted / controller if controllers else mounted
        folder = top / name.lstrip("/")
        yield Group(folder, not controllers)
        while folder != top and top in folder.parents:
            folder = folder.parent
            yield Group(folder, not controllers)


def lines(path: Path) -> list[str]:
    """Return a file's lines; none if it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
