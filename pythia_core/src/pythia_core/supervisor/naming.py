"""Says which workers a file defines: ``python -m pythia_core.supervisor.naming DESCRIPTOR TARGET``.

A process of its own, since what runs fleets imports no user's code.
"""

from __future__ import annotations

import sys

from pythia_core.supervisor.link import Link


def main(arguments: list[str]) -> int:
    """Import the target, say the names, and end."""
    link = Link(int(arguments[0]))
    link.catch_signals()
    options = link.read_options()
    link.die_with(options.supervisor)
    link.listen()  # nothing is ever bound to it: the end of whoever asked ends this process

    from pythia_core.loader import explain, load_workers

    try:
        names = [kind.__name__ for kind in load_workers(options.target)]
        link.say("names", names=names)
    except (Exception, SystemExit) as error:
        link.say("fault", text=explain(error, options.target))
    link.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
