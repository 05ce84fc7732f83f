"""The process that runs one contender once: a fresh one, so that no contender inherits another's heap or caches.

It is told what to run as JSON in its only argument, and prints what it measured as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys

import anyio
import attrs

from bench.run import Run


def main() -> None:
    """Run the contender named on the command line."""
    order = json.loads(sys.argv[1])
    module, _, function = order["contender"].partition(":")
    contender = getattr(importlib.import_module(module), function)
    run = Run(order["messages"], order["place"])
    anyio.run(contender, run)
    measured = None if run.measured is None else attrs.asdict(run.measured)
    print(json.dumps({"measured": measured, "figures": run.figures}))


if __name__ == "__main__":
    main()
