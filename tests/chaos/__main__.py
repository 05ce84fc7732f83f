"""`python -m tests.chaos`: runs chaos and prints the verdict; exit code 1 if a promise was not kept."""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from tests.chaos.broker import BROKERS
from tests.chaos.checker import Verdict
from tests.chaos.run import Plan, judge, run


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--broker", choices=sorted(BROKERS), default=Plan().broker)
    parser.add_argument("--seconds", type=float, default=Plan().seconds)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--rate", type=float, default=Plan().rate, help="messages a second")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="judge a history once more")
    given = parser.parse_args(arguments)
    logging.getLogger().addHandler(logging.NullHandler())  # clients complain of outages, which are ours
    if given.check:
        verdict = judge(given.check, given.broker)
    else:
        folder = Path(tempfile.mkdtemp(prefix="pythia-chaos-"))
        say(f"{given.seconds:g} s of chaos on {given.broker}, seed {given.seed}; the history is in {folder}")
        plan = Plan(broker=given.broker, seconds=given.seconds, seed=given.seed, rate=given.rate)
        verdict = run(plan, folder)
    say(report(verdict))
    return 0 if verdict.holds else 1


def say(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def report(verdict: Verdict) -> str:
    """Return the verdict as a table."""
    figures = verdict.figures
    lines = [
        f"{figures['sent']:10.0f} sent",
        f"{figures['owed']:10.0f} owed: their sending was confirmed",
        f"{figures['lost']:10.0f} lost",
        f"{figures['effects']:10.0f} effects",
        f"{figures['dead']:10.0f} dead letters, of poisoned messages and {figures['killers']:.0f} that kill their process",
        f"{figures['duplicates']:10.0f} second effects, of at most {figures['bound']:.0f} by the faults",
        *(f"{count:10.0f}     by: {name}" for name, count in sorted(verdict.duplicates.items())),
        f"{figures['faults']:10.0f} faults",
        *(f"{count:10.0f}     {name}" for name, count in sorted(verdict.faults.items())),
        f"{figures['stops']:10.0f} graceful stops, which explain no second effect",
        f"{figures['processes']:10.0f} processes",
        f"{figures['settled']:10.0f} seen settled, in {figures['samples']:.0f} looks",
        f"{figures['silence']:10.1f} s was the longest time without an effect",
        *(f"VIOLATED {violation.invariant}: {violation.text}" for violation in verdict.violations),
        "Every promise was kept." if verdict.holds else "A promise was not kept.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
