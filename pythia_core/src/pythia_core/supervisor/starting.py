"""From what the command line said to a supervisor that runs: a plan, which can be sent to another process too."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import attrs

__all__ = ["DEFAULT_POLICY", "Plan", "supervise"]

DEFAULT_POLICY = "drain"


@attrs.frozen(kw_only=True)
class Plan:
    """What is to run, and how.

    Args:
        target: FILE or MODULE, and perhaps ``:CLASS``.
        least, most: bounds of the number of processes.
        scaled: True if a policy decides between them.
        config: path of a configuration file.
        overrides: settings of the command line, by name.
        listen: ``[HOST:]PORT`` for metrics and health, or None.
        control: path of the control socket, ``none`` for none, or None for the usual place.
        reload: True to restart processes when a file beside the worker changes.
        who: names this fleet in the log, where several write to one.
        fleets: how many fleets share this machine's memory, this one included; each is taken to be as large as this one.
    """

    target: str
    least: int = 1
    most: int = 1
    scaled: bool = False
    config: str | None = None
    overrides: dict[str, Any] = attrs.field(factory=dict, repr=False)
    listen: str | None = None
    control: str | None = None
    reload: bool = False
    who: str = ""
    fleets: int = 1

    @property
    def worker(self) -> str:
        """The only class that is run, whose own section of a file counts too; empty if that is not said."""
        place, _, name = self.target.rpartition(":")
        return name if place and name.isidentifier() else ""


def supervise(plan: Plan, parent: socket.socket | None = None) -> int:
    """Run a fleet to its end, and return the exit code.

    Args:
        plan: what to run.
        parent: a socket whose end means that whoever started this has died, which is a reason to stop.

    Raises:
        ConfigError: if a setting is wrong.
    """
    from pythia_core import logs, plugins
    from pythia_core.config import resolve
    from pythia_core.supervisor.control import folder
    from pythia_core.supervisor.reload import sources_of
    from pythia_core.supervisor.scaling import Scaler
    from pythia_core.supervisor.shell import Supervisor
    from pythia_core.supervisor.views import LogLines, choose_view
    from pythia_core.supervisor.wire import Options

    overrides, file = plan.overrides, Path(plan.config) if plan.config else None
    said = resolve(overrides=overrides, environ=os.environ, file=file, worker=plan.worker)
    if plan.scaled and said.scaling is None:
        overrides = {**overrides, "scaling": {"kind": DEFAULT_POLICY}}
        said = resolve(overrides=overrides, environ=os.environ, file=file, worker=plan.worker)
    logs.configure(said.log_level, said.log_format, who=plan.who)
    options = Options(
        target=plan.target,
        config=plan.config,
        overrides=overrides,
        monitored=bool(plan.listen),
        who=plan.who,
    )
    scaler = None
    if plan.scaled and said.scaling is not None:
        asked: Any = overrides.get("scaling", said.origin["scaling"])
        name = asked["kind"] if isinstance(asked, dict) else asked
        scaler = Scaler(said.scaling, name, plan.least, plan.most)
    usual = folder(os.environ) / f"{os.getpid()}.sock"
    supervisor = Supervisor(
        options,
        plan.least,
        LogLines() if plan.who else choose_view(sys.stderr, os.environ),
        scaler,
        control=None if plan.control == "none" else Path(plan.control) if plan.control else usual,
        sources=sources_of(plan.target, plan.config) if plan.reload else None,
        parent=parent,
        fleets=plan.fleets,
    )
    if plan.listen:
        supervisor.monitoring.open(plan.listen, plugins.load(os.environ).telemetry.values())
    return supervisor.run()
