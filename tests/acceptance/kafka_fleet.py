"""Workers of Kafka as anybody starts them: processes of one file, each of which writes down what it has handled."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.kafka import KafkaServer

PYTHIA = Path(sys.executable).with_name("pythia")


def publish(server: KafkaServer, topic: str, bodies: Iterable[Any], key: str) -> None:
    """Publish by `pythia send`, as the README does it; one field of each body is the key."""
    command: list[Any] = [PYTHIA, "send", "kafka", f"topic={topic}", "--key-field", key, "--json"]
    subprocess.run(
        command,
        input="".join(json.dumps(body) + "\n" for body in bodies).encode(),
        check=True,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": server.address},
        stdout=subprocess.DEVNULL,
    )


def handled(folder: Path) -> dict[int, list[int]]:
    """Return the ids that each process wrote down, by pid; a line cut short by a kill does not count."""
    return {
        int(file.name): [int(line.split()[0]) for line in file.read_bytes().rpartition(b"\n")[0].splitlines()]
        for file in folder.iterdir()
    }


def count(folder: Path) -> int:
    """Return how many lines there are."""
    return sum(len(ids) for ids in handled(folder).values())


def everything(folder: Path) -> set[int]:
    """Return every id that was handled."""
    return set().union(*handled(folder).values())


class Fleet:
    """Processes of one worker file, started one by one or by the command; more of the environment goes to each."""

    def __init__(self, folder: Path, server: KafkaServer, worker: str, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.worker = folder / "worker.py"
        self.handled = folder / "handled"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.worker.write_text(worker)
        self.handled.mkdir()
        self._environ = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": server.address,
            "HANDLED": str(self.handled),
            **environ,
        }
        self._log = (folder / "log").open("ab")

    def start(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        """Start one more, by `python worker.py` if no command is given."""
        process = subprocess.Popen(
            command or (sys.executable, self.worker),
            env=self._environ,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Stop all that live, gracefully."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=60)

    def log(self) -> str:
        """Return the end of what they logged."""
        return (self.folder / "log").read_text()[-4000:]


@contextmanager
def fleet(folder: Path, server: KafkaServer, worker: str, **environ: str) -> Iterator[Fleet]:
    """Have a fleet for one block; none of it outlives that."""
    made = Fleet(folder, server, worker, environ)
    try:
        yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.kill()
            process.wait(30)
        made._log.close()


def owners(server: KafkaServer, group: str) -> list[int]:
    """Return how many partitions each member has, by Kafka's own tool."""
    rows = server.describe_group(group)
    members = Counter(row["CONSUMER-ID"] for row in rows if row.get("CONSUMER-ID", "-") != "-")
    return sorted(members.values())
