"""Notices that a worker's files have changed, for `pythia run --reload`: a convenience of development, by looking.

It looks once a second at when files were written, which needs no library and works on every file system. A change is
told only once nothing more changes, since an editor or a checkout writes many files one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["Sources", "sources_of"]

MOST = 5_000  # files that are looked at; a folder with more is hardly a worker's own
SKIPPED = frozenset({"node_modules", "site-packages", "venv", "__pycache__"})  # and what begins with a dot


@attrs.define(eq=False)
class Sources:
    """The Python files of a folder, and whatever else is named.

    Args:
        folder: with all that is below it, but for hidden folders and installed packages.
        others: single files, such as a configuration.
    """

    folder: Path
    others: tuple[Path, ...] = ()
    _seen: dict[str, int] = attrs.field(init=False)
    _told: dict[str, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seen = self._told = self._look()

    def changed(self) -> list[str]:
        """Return what has been written, made or removed since this last told of a change, if it is quiet since the last look."""
        before, self._seen = self._seen, self._look()
        if self._seen != before:
            return []
        told, self._told = self._told, self._seen
        return sorted(
            path for path in told.keys() | self._told.keys() if told.get(path) != self._told.get(path)
        )

    def _look(self) -> dict[str, int]:
        """Return when each file was written last."""
        found = {}
        for path in self._files():
            try:
                found[path] = os.stat(path).st_mtime_ns
            except OSError:  # it is just being replaced
                continue
            if len(found) >= MOST:
                break
        return found

    def _files(self) -> Iterator[str]:
        yield from map(str, self.others)
        for folder, below, names in os.walk(self.folder):
            below[:] = sorted(name for name in below if name not in SKIPPED and not name.startswith("."))
            for name in sorted(names):
                if name.endswith(".py"):
                    yield os.path.join(folder, name)


def sources_of(target: str, config: str | None) -> Sources:
    """Return the files of a worker, named as for `pythia run`: those beside a FILE, or all below here for a MODULE."""
    name = target.partition(":")[0] if not Path(target).exists() else target
    path = Path(name)
    folder = path.parent if path.suffix == ".py" else Path.cwd()
    return Sources(folder, () if config is None else (Path(config),))
