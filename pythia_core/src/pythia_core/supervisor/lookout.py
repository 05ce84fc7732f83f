"""Sees from outside how much is left where workers read: what whoever scales a fleet needs that is not its supervisor.

It stands apart from the spare process's keeper because it is what plugins may use: it knows what is configured, and turns
what the process says into observations. The user's code is imported in that process only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from pythia_core import logs
from pythia_core.config import resolve
from pythia_core.contracts import QueueObservation, ScalingPolicy
from pythia_core.supervisor.queues import Queues
from pythia_core.supervisor.spare import Spare
from pythia_core.supervisor.wire import Options

__all__ = ["LOOK_SECONDS", "Lookout"]

LOOK_SECONDS = 0.5
"""Seconds between two answers of a broker, so that a first message is noticed within a second."""

AGAIN_SECONDS = 5.0
LOOKING = "pythia_core.supervisor.looking"
DEFAULT_POLICY = "drain"


@attrs.define(eq=False)
class Lookout:
    """Asks the sources of workers how much is left, in a process of its own.

    Example:
        ::

            with closing(Lookout.open("worker.py")) as lookout:
                while not lookout.look():
                    time.sleep(0.1)
                print(lookout.observed(time.monotonic()))

    Args:
        target: FILE or MODULE, and perhaps ``:CLASS``.
        policy: the scaling policy that is configured.
        policy_name: what configuration calls it.
        workers: what each worker is, by its name, once the process has said it: ``system``, ``destination``, ``group`` and
            ``drain_timeout`` in seconds.
        queues: what was heard; the history of rates is made by whoever calls :meth:`note`.
    """

    target: str
    policy: ScalingPolicy | None
    policy_name: str
    queues: Queues
    _spare: Spare
    workers: dict[str, Mapping[str, Any]] = attrs.field(factory=dict, init=False)
    _errors: dict[str, int] = attrs.field(factory=dict, init=False)

    @classmethod
    def open(
        cls,
        target: str,
        *,
        file: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        window: float = 30.0,
        interval: float = LOOK_SECONDS,
    ) -> Lookout:
        """Set up logging as configured, and return a lookout that starts its process at the first look.

        Args:
            target: what ``pythia run`` would be given.
            file: a configuration file.
            overrides: settings above all others, by name.
            window: seconds of history for rates.
            interval: seconds between two answers of a broker.

        Raises:
            ConfigError: if a setting is wrong.
        """
        given = dict(overrides or {})
        said = resolve(overrides=given, environ=os.environ, file=file)
        if said.scaling is None:
            given["scaling"] = {"kind": DEFAULT_POLICY}
            said = resolve(overrides=given, environ=os.environ, file=file)
        logs.configure(said.log_level, said.log_format)
        asked: Any = given.get("scaling", said.origin["scaling"])
        # No process here runs a worker, so none may grow to what those may: processes=0 asks for no memory.
        options = Options(target=target, config=str(file) if file else None, overrides=given, processes=0)
        spare = Spare(options, LOOKING, "asks how much is left", [str(interval)], AGAIN_SECONDS)
        name = asked["kind"] if isinstance(asked, dict) else str(asked)
        return cls(target, said.scaling, name, Queues(window), spare)

    @property
    def fault(self) -> str:
        """Why nothing will ever be known: the target cannot be imported, or is misconfigured. Empty while there is hope."""
        return self._spare.fault

    @property
    def errors(self) -> int:
        """How often a source could not be asked."""
        return sum(self._errors.values())

    def look(self) -> bool:
        """Take what the process has said, start or replace it if that is due, and return whether there is news."""
        now = time.monotonic()
        fresh = self._spare.look(now)
        for message in self._spare.heard:
            if message["type"] == "workers":
                self._meet(message["workers"])
            else:
                self._hear(message, now)
        self._spare.heard.clear()
        return fresh

    def _meet(self, workers: Sequence[Mapping[str, Any]]) -> None:
        """Learn which workers there are: of all of them something must be known before everything is."""
        self.workers = {worker["name"]: worker for worker in workers}
        for name, worker in self.workers.items():
            if self.queues.heard_at(name) is None:
                self.queues.hear(worker, UNKNOWN, float("-inf"))

    def _hear(self, message: Mapping[str, Any], now: float) -> None:
        name, said = message["worker"], message["queue"]
        self._errors[name] = message["errors"]
        if said is not None:
            self.queues.hear(self.workers[name], said, now - said["age"])

    def note(self, settled: Mapping[str, int]) -> None:
        """Make what was heard last a point of the history.

        Args:
            settled: how many messages each worker had settled by now, in all its processes; those left out settled none.
        """
        for name in self.queues.observed(time.monotonic()):
            self.queues.note(name, settled.get(name, 0))

    def observed(self, now: float) -> dict[str, QueueObservation]:
        """Return what is known of each worker's queue, by the worker's name."""
        return self.queues.observed(now)

    def close(self) -> None:
        """End the process; it holds nothing."""
        self._spare.close()


UNKNOWN: Mapping[str, Any] = {
    "waiting": None,
    "in_flight": None,
    "oldest": None,
    "at_least": False,
    "partitions": None,
    "partitions_with_lag": None,
    "max_partition_lag": None,
}
