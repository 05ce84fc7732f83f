"""``python -m tests.mutants [WORD...]``: try all mutants, or those whose guarantee or path has one of the words."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.mutant import Laboratory, Mutant
from tests.mutants.table import MUTANTS


def chosen(words: Sequence[str]) -> list[Mutant]:
    """Return the mutants that have one of the words, or all if there are no words."""
    return [
        mutant
        for mutant in MUTANTS
        if not words or any(word in f"{mutant.guarantee} {mutant.path}" for word in words)
    ]


def main(words: Sequence[str]) -> int:
    """Try mutants, print a line for each, and return how many were not caught."""
    mutants = chosen(words)
    escaped = 0
    with tempfile.TemporaryDirectory(prefix="pythia-mutants-") as folder:
        laboratory = Laboratory(Path(folder))
        for number, mutant in enumerate(mutants, 1):
            verdict, output = laboratory.try_out(mutant)
            print(f"{number:3}/{len(mutants)} {verdict:8} {mutant.guarantee}: {mutant.test}", flush=True)  # noqa: T201
            if verdict != "caught":
                escaped += 1
                print(f"    {mutant.path}: {mutant.old.strip()!r}\n{output[-2000:]}", flush=True)  # noqa: T201
    print(f"{len(mutants) - escaped} of {len(mutants)} caught")  # noqa: T201
    return escaped


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
