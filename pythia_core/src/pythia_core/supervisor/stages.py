"""Several fleets side by side: each worker of a file has a supervisor of its own, so that each is scaled by itself.

It stands apart from the supervisor, which knows one number of processes: here nothing is decided, signals are handed on,
and whoever ends is noticed.

Invariants:

- What is asked of all (stop, restart, one more, one fewer) is handed on to each, as often as it is asked.
- A supervisor that gives up ends all, with its exit code: a pipeline with a stage missing only fills up a queue.
- One that was killed is started again; its processes have drained, as they do when their supervisor dies.
- One that somebody stopped stays stopped, and the others go on. When the last has ended, so does this.
- If this dies, all supervisors stop as if they were told to.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import attrs

from pythia_core.errors import ConfigError
from pythia_core.monitoring import parse_address
from pythia_core.supervisor import trap
from pythia_core.supervisor.shell import has_terminal
from pythia_core.supervisor.starting import Plan, supervise
from pythia_core.supervisor.wire import Mailbox, Options, pack

__all__ = ["plan_each", "supervise_each"]

AGAIN_SECONDS = 1.0  # before a supervisor that was killed is started again
TICK_SECONDS = 1.0
HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)

log = logging.getLogger("pythia.supervisor")


def supervise_each(plan: Plan) -> int:
    """Run a fleet for each worker of a file, and return the exit code.

    Raises:
        ConfigError: if a setting is wrong, or the file does not load.
    """
    trapped = trap.install()
    names = _names(plan.target, trapped)
    if names is None:
        return 0
    if len(names) == 1:
        return supervise(plan)
    return _Stages(plan_each(plan, names), trapped).run()


def plan_each(plan: Plan, names: Sequence[str]) -> list[Plan]:
    """Return a plan for each worker; where to listen is counted up, a port for each.

    Raises:
        ConfigError: if they would have to share what belongs to one.
    """
    if plan.control not in (None, "none"):
        raise ConfigError(
            f"--control {plan.control} names one socket, but with --each there is one for each worker: leave it out, "
            "or say none"
        )
    place, colon, name = plan.target.rpartition(":")
    file = place if colon and name in names else plan.target
    return [
        attrs.evolve(
            plan,
            target=f"{file}:{kind}",
            who=kind,
            fleets=len(names),
            listen=_next_port(plan.listen, number),
        )
        for number, kind in enumerate(names)
    ]


def _next_port(listen: str | None, number: int) -> str | None:
    if listen is None:
        return None
    host, port = parse_address(listen)
    return f"{f'[{host}]' if ':' in host else host}:{port + number if port else 0}"


def _names(target: str, trapped: trap.Trap) -> list[str] | None:
    """Return which workers a target has, or None if a signal to stop came meanwhile.

    Raises:
        ConfigError: if it does not load.
    """
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "pythia_core.supervisor.naming", str(theirs.fileno()), target],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        ) as process,
    ):
        theirs.close()
        try:
            said = _hear(ours, Options(target=target, supervisor=os.getpid()), trapped)
        finally:
            process.kill()  # it has said all that it is there for
    if said is None:
        return None
    if said["type"] == "fault":
        raise ConfigError(said["text"])
    names: list[str] = said["names"]
    return names


def _hear(ours: socket.socket, options: Options, trapped: trap.Trap) -> dict[str, Any] | None:
    """Return what the other process says, or None if a signal to stop came first."""
    mailbox = Mailbox(ours)
    mailbox.send(attrs.asdict(options))
    while not mailbox.closed:
        select.select([ours, trapped.reader], [], [])
        if any(number in (signal.SIGTERM, signal.SIGINT) for number in trapped.caught()):
            return None
        if said := mailbox.receive():
            return said[0]
    return {"type": "fault", "text": f"the process that looked for workers in {options.target} has died"}


@attrs.define(eq=False)
class _Stage:
    """One worker's supervisor."""

    plan: Plan
    process: subprocess.Popen[bytes] | None = None
    pipe: socket.socket | None = None  # its end tells the supervisor that we have died
    due: float | None = 0.0  # when it is to be started; None once it is not any more

    def start(self) -> None:
        """Start it."""
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), self.plan.target]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pythia_core.supervisor.stage", *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            log.error("the supervisor of %s cannot be started: %s", self.plan.who, error)
            ours.close()
            self.due = time.monotonic() + AGAIN_SECONDS
            return
        finally:
            theirs.close()
        self.pipe, self.due = ours, None
        ours.sendall(pack(attrs.asdict(self.plan)))
        log.info("%s has a supervisor of its own, pid %d", self.plan.who, self.process.pid)

    def forget(self) -> None:
        """Take note of its end."""
        self.process = None
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None


@attrs.define(eq=False)
class _Stages:
    """All of them."""

    plans: Sequence[Plan]
    trapped: trap.Trap
    _stages: list[_Stage] = attrs.field(init=False)
    _stopping: bool = attrs.field(default=False, init=False)
    _exit_code: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._stages = [_Stage(plan) for plan in self.plans]

    def run(self) -> int:
        """Start them, and return the exit code once all have ended."""
        terminal = has_terminal()
        while True:
            self._start_due()
            if all(stage.process is None and stage.due is None for stage in self._stages):
                return self._exit_code
            select.select([self.trapped.reader], [], [], TICK_SECONDS)
            for number in self.trapped.caught():
                if number in HANDED_ON:
                    self._hand_on(signal.SIGTERM if number == signal.SIGHUP and terminal else number)
            self._reap()

    def _start_due(self) -> None:
        now = time.monotonic()
        for stage in self._stages:
            if stage.due is not None and stage.due <= now:
                stage.start()

    def _hand_on(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stopping = True
            for stage in self._stages:
                stage.due = None
        for stage in self._stages:
            if stage.process is not None:
                os.kill(stage.process.pid, number)  # it is not reaped yet, so the number is still its own

    def _reap(self) -> None:
        """Collect whoever has ended; as process 1 of a container also those who have lost their parents."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for stage in self._stages:
                if stage.process is not None and stage.process.pid == pid:
                    stage.process.returncode = code = os.waitstatus_to_exitcode(status)
                    self._ended(stage, code)

    def _ended(self, stage: _Stage, code: int) -> None:
        stage.forget()
        who = stage.plan.who
        if code < 0 and not self._stopping:
            log.error("the supervisor of %s was ended by signal %d and is started again", who, -code)
            stage.due = time.monotonic() + AGAIN_SECONDS
        elif code:
            self._exit_code = self._exit_code or (code if code > 0 else 1)
            if not self._stopping:
                log.error("%s has given up with exit code %d, so all are stopped", who, code)
                self._hand_on(signal.SIGTERM)
        elif not self._stopping:
            log.info("%s has been stopped; the others go on", who)
