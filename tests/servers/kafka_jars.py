"""Where Kafka's jars are, and how they get there: `python tests/servers/kafka_jars.py` fetches what is missing by Maven.

It stands apart because the noxfile runs it before anything is installed: it needs nothing but the standard library.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "4.3.1"
POM = Path(__file__).with_name("kafka.xml")
OVERRIDE = "PYTHIA_KAFKA_JARS"
"""Environment variable that names another folder."""


def folder() -> Path:
    """Return the folder of the jars, whether it is there or not."""
    if given := os.environ.get(OVERRIDE):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pythia" / f"kafka-{VERSION}"


def fetch() -> None:
    """Fetch the jars (54 MB, 10 s) unless they are there. What was interrupted leaves nothing behind."""
    target = folder()
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        copied = Path(scratch) / "jars"
        command = ["mvn", "-q", "-B", "-ntp", "-f", str(POM), "dependency:copy-dependencies"]
        subprocess.run([*command, f"-DoutputDirectory={copied}"], check=True)
        copied.rename(target)


if __name__ == "__main__":
    fetch()
    sys.stdout.write(f"Kafka {VERSION}: {folder()}\n")
