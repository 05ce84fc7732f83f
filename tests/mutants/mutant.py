"""What a mutant is, and how one is tried: a copy of the sources, one passage changed, one test run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import attrs

ROOT = Path(__file__).parents[2]
SOURCES = {
    "pythia_core": ROOT / "pythia_core/src",
    "pythia_redis": ROOT / "plugins/pythia_redis/src",
    "pythia_kafka": ROOT / "plugins/pythia_kafka/src",
    "pythia_rabbitmq": ROOT / "plugins/pythia_rabbitmq/src",
    "pythia_metrics": ROOT / "plugins/pythia_metrics/src",
}
SECONDS = 60  # for one test, some of which start a server
FAILED = 1  # pytest's exit code for "tests ran and some failed"; all others are troubles of another kind

Verdict = Literal["caught", "survived", "broken"]


@attrs.frozen
class Mutant:
    """One passage of the sources, taken out or turned around.

    Args:
        guarantee: what the passage is there for.
        path: the file, from its package's folder on.
        old: the passage; it occurs once.
        new: what stands there instead.
        test: the test that has to fail, as pytest names it.
    """

    guarantee: str
    path: str
    old: str
    new: str
    test: str

    @property
    def original(self) -> Path:
        """The file as it is."""
        return SOURCES[self.path.split("/")[0]] / self.path

    def fault(self) -> str | None:
        """Return what is wrong with this entry of the table, or None."""
        found = self.original.read_text().count(self.old)
        if found != 1:
            return f"{self.path} holds {found} times, not once: {self.old!r}"
        path, _, name = self.test.partition("::")
        name = name.partition("[")[0]
        tests = (ROOT / path).read_text()
        if f"def {name}(" not in tests and f"\n{name} = " not in tests:
            return f"there is no test {self.test}"
        return None


class Laboratory:
    """A copy of the sources in which one passage at a time is changed.

    Args:
        folder: where the copy goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folders = {package: folder / package for package in SOURCES}
        for package, source in SOURCES.items():
            shutil.copytree(source, self._folders[package], ignore=shutil.ignore_patterns("__pycache__"))

    def try_out(self, mutant: Mutant) -> tuple[Verdict, str]:
        """Run a mutant's test on the mutant; return the verdict and what pytest printed."""
        file = self._folders[mutant.path.split("/")[0]] / mutant.path
        whole = file.read_text()
        file.write_text(whole.replace(mutant.old, mutant.new))
        try:
            return self._run(mutant.test)
        finally:
            file.write_text(whole)

    def _run(self, test: str) -> tuple[Verdict, str]:
        path = os.pathsep.join(map(str, self._folders.values()))
        command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test)
        environ = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        environ |= {"HYPOTHESIS_PROFILE": "mutants", "TEST_PATIENCE": "10"}
        try:
            ended = subprocess.run(
                command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return "caught", "it did not end"
        verdict: Verdict = (
            "caught" if ended.returncode == FAILED else "survived" if ended.returncode == 0 else "broken"
        )
        return verdict, ended.stdout + ended.stderr
