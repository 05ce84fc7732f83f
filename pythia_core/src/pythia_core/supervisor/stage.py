"""The supervisor of one worker among several: ``python -m pythia_core.supervisor.stage DESCRIPTOR TARGET``.

TARGET is there for whoever reads a list of processes; what counts comes over the pipe, whose end means that the process
which started all of them has died.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from pythia_core.supervisor import trap

READ_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Supervise."""
    trap.install()

    from pythia_core.errors import PythiaError
    from pythia_core.supervisor.starting import Plan, supervise

    parent = socket.socket(fileno=int(arguments[0]))
    parent.set_inheritable(False)
    try:
        return supervise(Plan(**_read(parent)), parent)
    except PythiaError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _read(parent: socket.socket) -> dict[str, Any]:
    import orjson

    parent.settimeout(READ_SECONDS)
    with parent.makefile("rb", buffering=0) as lines:
        said: dict[str, Any] = orjson.loads(lines.readline())
    parent.setblocking(False)
    return said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
