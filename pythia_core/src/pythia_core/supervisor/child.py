"""The main program of a worker process: ``python -m pythia_core.supervisor.child DESCRIPTOR TARGET SLOT``.

A fresh interpreter, never a fork: nothing of the supervisor's state is in it, and what a user's file does at import it
does here. TARGET and SLOT are there for whoever reads a list of processes; what counts comes over the pipe.
"""

from __future__ import annotations

import sys

from pythia_core.supervisor.link import Link


def main(arguments: list[str]) -> int:
    """Be a worker process."""
    link = Link(int(arguments[0]))
    link.catch_signals()
    options = link.read_options()
    link.die_with(options.supervisor)
    link.listen()

    from pythia_core.supervisor.serving import serve  # heavy, and from here on every order is heard

    return serve(options, link)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
