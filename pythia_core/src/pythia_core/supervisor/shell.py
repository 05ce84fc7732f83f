"""The supervisor's hands: processes, pipes, signals and the clock, around the machine that decides.

One thread, one selector, no event loop: it starts fast and stays small, since it is what has to outlive everything else.
"""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from pythia_core.by_worker import ByWorker
from pythia_core.contracts import QueueObservation, Snapshot
from pythia_core.errors import PythiaError
from pythia_core.monitoring import Monitoring
from pythia_core.supervisor import trap
from pythia_core.supervisor.control import Control
from pythia_core.supervisor.events import (
    Action,
    Asked,
    Died,
    Draining,
    End,
    Event,
    Fault,
    Kill,
    Loaded,
    Pin,
    Report,
    Say,
    Scale,
    Spawn,
    Tell,
    Tick,
    Tired,
    Wish,
)
from pythia_core.supervisor.figures import Figures, Row
from pythia_core.supervisor.machine import Machine
from pythia_core.supervisor.reload import Sources
from pythia_core.supervisor.scaling import Scaler
from pythia_core.supervisor.spare import Spare
from pythia_core.supervisor.views import LogLines, Overview, Queue, View
from pythia_core.supervisor.watch import Watch, describe_fleet
from pythia_core.supervisor.wire import Mailbox, Options

__all__ = ["Supervisor", "has_terminal"]

log = logging.getLogger("pythia.supervisor")

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
WISHES: dict[int, Wish] = {
    signal.SIGTERM: "stop",
    signal.SIGINT: "stop",
    signal.SIGHUP: "roll",
    signal.SIGTTIN: "more",
    signal.SIGTTOU: "fewer",
}
TICK_SECONDS = 1.0
WATCHED_SECONDS = 10.0  # after an operator has asked for a look: one child asks the broker what is left
RELOAD_SECONDS = 0.5  # between two looks at the files
MOST = 1_000  # processes that an operator may ask for
NOT_STARTED = 71  # EX_OSERR: the machine cannot start another process now


@attrs.define(eq=False)
class Process:
    """A child's process and this end of its pipe."""

    popen: subprocess.Popen[bytes]
    mailbox: Mailbox


@attrs.define(eq=False)
class Supervisor:
    """Runs a fleet until it is told to stop.

    Args:
        options: what every child is told; number and slot are filled in.
        processes: how many children.
        view: shows it all.
        scaler: decides how many there should be; None leaves it to signals.
        monitoring: takes reports; opened later if a worker asks for it.
        control: the path of the socket that operators speak to, or None for none.
        sources: files whose change restarts the children one by one, or None.
        parent: a socket whose end means that whoever started this supervisor has died: a reason to stop.
        fleets: how many fleets share this machine's memory.
    """

    options: Options
    processes: int
    view: View
    scaler: Scaler | None = None
    monitoring: Monitoring = attrs.field(factory=Monitoring)
    control: Path | None = None
    sources: Sources | None = None
    parent: socket.socket | None = None
    fleets: int = 1
    figures: Figures = attrs.field(factory=Figures, init=False)
    _machine: Machine = attrs.field(init=False)
    _children: dict[int, Process] = attrs.field(factory=dict, init=False)
    _selector: selectors.BaseSelector = attrs.field(factory=selectors.DefaultSelector, init=False)
    _watch: Watch = attrs.field(init=False)
    _spare: Spare | None = attrs.field(default=None, init=False)  # asks workers for their opinion
    _observer: int | None = attrs.field(default=None, init=False)  # the child that asks what is left
    _look_at: float = attrs.field(default=0.0, init=False)
    _watched_until: float = attrs.field(default=0.0, init=False)  # until then an operator watches
    _reload_at: float = attrs.field(default=0.0, init=False)
    _began: float = attrs.field(factory=time.monotonic, init=False)
    _exit_code: int | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._machine = Machine(self.processes, random.random)
        self._watch = Watch(self.options.target)
        if self.scaler is not None and isinstance(self.scaler.policy, ByWorker):
            self._spare = Spare(self.options)

    def run(self) -> int:
        """Start the children, keep them running, and return the exit code once they have ended."""
        trapped = trap.install()
        terminal = has_terminal()
        self._selector.register(trapped.reader, selectors.EVENT_READ, None)
        if self.parent is not None:
            self._selector.register(self.parent, selectors.EVENT_READ, self._orphaned)
        control = self._listen_to_operators()
        try:
            while self._exit_code is None:
                self._feed(Tick())
                self._look()
                self._reload()
                self._show()
                for key, _ in self._selector.select(self._timeout()):
                    if key.data is not None:
                        key.data()
                for number in trapped.caught():
                    self._caught(number, terminal)
                self._reap()
        finally:
            self._show(last=True)
            self.monitoring.close()
            if self._spare is not None:
                self._spare.close()
            if control is not None:
                control.close()
            self._selector.close()
        return self._exit_code

    def _timeout(self) -> float:
        if self._exit_code is not None:
            return 0.0
        now = time.monotonic()
        due = self._machine.wakeup(now)
        return TICK_SECONDS if due is None else min(TICK_SECONDS, max(0.0, due - now))

    # -- what happened -------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        for action in self._machine.handle(event, time.monotonic()):
            self._do(action)

    def _caught(self, number: int, terminal: bool) -> None:
        if number in (signal.SIGWINCH, signal.SIGCONT):
            self.view.resize()
        elif number == signal.SIGHUP and terminal:
            self._feed(Asked("stop"))  # the terminal has gone, and with it whoever was looking
        elif number in WISHES:
            self._feed(Asked(WISHES[number]))

    def _orphaned(self) -> None:
        """Stop: whoever started this has died, and says nothing else by this pipe."""
        assert self.parent is not None
        self._selector.unregister(self.parent)
        log.error("the process that started this supervisor has died: stopping")
        self._feed(Asked("stop"))

    def _listen(self, number: int) -> None:
        """Take what a child says. Its death is noticed by the system, not by its silence."""
        if (process := self._children.get(number)) is None:
            return
        for message in process.mailbox.receive():
            self._heard(number, message)
        if process.mailbox.closed and process.mailbox.socket.fileno() in self._selector.get_map():
            self._selector.unregister(process.mailbox.socket)

    def _heard(self, number: int, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "loaded":
            self._feed(Loaded(number, message["drain_timeout"]))
            if message["listen"] and not self.monitoring:
                self._listen_at(message["listen"])
        elif kind == "report":
            now = time.monotonic()
            self.figures.take(number, message, now)
            self._watch.take(number, message, now)
            self.monitoring.take(number, self._machine.children[number].slot, message)
            self._feed(
                Report(
                    number,
                    message["ready"],
                    message["waiting_for"],
                    tuple(message["reasons"]),
                    message["busy"],
                )
            )
        elif kind == "tired":
            self._feed(Tired(number, message["reason"]))
        elif kind == "draining":
            self._feed(Draining(number, message["reason"]))
        elif kind == "fault":
            self._feed(Fault(number, message["text"], message["hopeless"]))

    def _reap(self) -> None:
        if os.getpid() == 1:
            self._reap_everybody()
            return
        for number, process in list(self._children.items()):
            if (status := process.popen.poll()) is not None:
                self._ended(number, status)

    def _reap_everybody(self) -> None:
        """Collect orphans too: process 1 is the parent of whoever has lost his."""
        pids = {process.popen.pid: number for number, process in self._children.items()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in pids:
                code = os.waitstatus_to_exitcode(status)
                self._children[pids[pid]].popen.returncode = code
                self._ended(pids[pid], code)

    def _ended(self, number: int, status: int) -> None:
        self._listen(number)  # its last words
        process = self._children.pop(number)
        if process.mailbox.socket.fileno() in self._selector.get_map():
            self._selector.unregister(process.mailbox.socket)
        process.mailbox.close()
        self.figures.forget(number)
        self._watch.forget(number)
        self.monitoring.forget(number)
        self._feed(Died(number, status))

    # -- what to do ----------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        if isinstance(action, Say):
            _log(LEVELS[action.level], action.text)
        elif isinstance(action, Spawn):
            self._spawn(action.number, action.slot)
        elif isinstance(action, Tell):
            self._tell(action.number, action.command)
        elif isinstance(action, Kill):
            if (process := self._children.get(action.number)) is not None:
                process.popen.kill()
        elif isinstance(action, End):
            self._exit_code = action.code

    def _spawn(self, number: int, slot: int) -> None:
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), self.options.target, str(slot)]
        # -P: the folder we were started in comes first in nobody's imports but the user's.
        command = [sys.executable, "-P", "-m", "pythia_core.supervisor.child", *arguments]
        try:
            popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        except OSError as error:
            log.error("process %d cannot be started: %s", number, error)
            ours.close()
            self._feed(Died(number, NOT_STARTED))
            return
        finally:
            theirs.close()
        mailbox = Mailbox(ours)
        self._children[number] = Process(popen, mailbox)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._listen, number))
        told = attrs.evolve(
            self.options,
            number=number,
            slot=slot,
            processes=self._machine.target * self.fleets,
            paused=self._machine.operator.paused,
            supervisor=os.getpid(),
        )
        mailbox.send(attrs.asdict(told))
        log.info("process %d started, pid %d", number, popen.pid)

    def _tell(self, number: int, command: str) -> None:
        if (process := self._children.get(number)) is not None:
            process.mailbox.send({"do": command})

    # -- scaling and monitoring ----------------------------------------------------------------------

    def _look(self) -> None:
        """Once a second, if anybody wants to know: take a snapshot, decide by it, and show it."""
        now = time.monotonic()
        if now < self._look_at or not (self.scaler or self.monitoring or now < self._watched_until):
            return
        self._look_at = now + TICK_SECONDS
        self._choose_observer()
        scaler, machine = self.scaler, self._machine
        self._hear_opinions(now)
        snapshot = self._watch.snapshot(
            machine.children.values(),
            now=now,
            wall=time.time(),
            desired=machine.target,
            least=scaler.least if scaler else machine.target,
            most=scaler.most if scaler else machine.target,
            last_up=scaler.last_up if scaler else None,
            last_down=scaler.last_down if scaler else None,
            opinions=tuple(self._spare.opinions.values()) if self._spare else (),
        )
        if scaler is not None and scaler.due(now) and not machine.stopping:
            decision = scaler.decide(snapshot)
            if decision.after != machine.target:
                self._feed(Scale(decision.after, f"{scaler.name} says {decision.reason}"))
        if self.monitoring:
            self.monitoring.show(self._fleet(snapshot, now))

    def _hear_opinions(self, now: float) -> None:
        """Take what workers say of scaling; an answer is acted on at once. Only a fleet that works is asked."""
        if self._spare is None or self._machine.stopping:
            return
        works = self._spare.opinions or any(child.ready for child in self._machine.children.values())
        if works and self._spare.look(now) and self.scaler is not None:
            self.scaler.hurry(now)

    def _choose_observer(self) -> None:
        """Have one child that is ready ask what is left in the sources: more would be a load on the broker."""
        children = self._machine.children
        chosen = children.get(self._observer) if self._observer is not None else None
        if chosen is not None and not chosen.leaving and not chosen.silent:
            return
        ready = [child for child in children.values() if child.ready]
        if ready:
            self._observer = min(ready, key=lambda child: child.slot).number
            self._tell(self._observer, "observe")

    def _listen_at(self, address: str) -> None:
        """Listen where a worker asks for it in its code. If that fails, working is more important."""
        from pythia_core import plugins

        try:
            self.monitoring.open(address, plugins.load(os.environ).telemetry.values())
        except PythiaError as error:
            log.error("%s", error)

    def _fleet(self, snapshot: Snapshot, now: float) -> dict[str, Any]:
        machine, scaler = self._machine, self.scaler
        fleet = describe_fleet(
            machine.children.values(),
            snapshot,
            title=self.options.target,
            target=machine.target,
            uptime=now - self._began,
        )
        return {
            **fleet,
            "stopping": machine.stopping,
            "restarts": machine.restarts,
            "policy": scaler.name if scaler else None,
            "policy_failures": scaler.failures if scaler else 0,
            "decisions": list(scaler.decisions) if scaler else [],
        }

    def _reload(self) -> None:
        """Roll when files have changed; what changes during a roll is noticed after it."""
        if self.sources is None or self._machine.roll is not None or time.monotonic() < self._reload_at:
            return
        self._reload_at = time.monotonic() + RELOAD_SECONDS
        if changed := self.sources.changed():
            more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
            log.info("%s has changed%s", os.path.relpath(changed[0]), more)
            self._feed(Asked("roll"))

    # -- operators -----------------------------------------------------------------------------------

    def _listen_to_operators(self) -> Control | None:
        if self.control is None:
            return None
        control = Control(self.control, self._selector, self._answer)
        try:
            control.open()
        except OSError as error:
            log.warning(
                "no control socket, so pythia top and pythia scale cannot reach this fleet: %s", error
            )
            return None
        return control

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what an operator says."""
        wish = request["do"]
        if wish == "show":
            self._watched_until = time.monotonic() + WATCHED_SECONDS
            return attrs.asdict(self.overview())
        if wish == "scale":
            self._feed(_pin(request))
        elif wish in ("pause", "resume"):
            self._feed(Asked(wish))
        else:
            raise ValueError(wish)
        machine = self._machine
        return {"target": machine.target, "paused": machine.operator.paused, "stopping": machine.stopping}

    # -- what it looks like --------------------------------------------------------------------------

    def _show(self, *, last: bool = False) -> None:
        """Show the fleet. A terminal that goes wrong must not take the fleet with it: then there are lines."""
        try:
            if last:
                self.view.close(self.overview())
            else:
                self.view.show(self.overview(), time.monotonic())
        except Exception:
            log.exception("the view of the fleet failed and is replaced by log lines")
            self.view = LogLines()

    def overview(self) -> Overview:
        """Return the fleet as it is now."""
        now, machine = time.monotonic(), self._machine
        rows = [
            Row(
                number=child.number,
                slot=child.slot,
                pid=self._children[child.number].popen.pid,
                state=child.state,
                reasons=child.reasons,
                totals=self.figures.of(child.number, now),
                busy=child.busy,
            )
            for child in machine.children.values()
            if child.number in self._children
        ]
        return Overview(
            target=machine.target,
            ready=sum(child.ready for child in machine.children.values()),
            rows=tuple(sorted(rows, key=lambda row: row.slot)),
            queues=tuple(_queue(name, known) for name, known in self._watch.queues(now).items()),
            totals=self.figures.all(now),
            restarts=machine.restarts,
            stopping=machine.stopping,
            paused=machine.operator.paused,
            pinned=machine.operator.pinned,
            uptime=now - self._began,
            title=self.options.target,
        )


def _queue(worker: str, known: QueueObservation) -> Queue:
    """Return what is known of a queue, for people to look at."""
    return Queue(
        worker=worker,
        destination=known.destination,
        waiting=known.backlog,
        in_flight=known.in_flight,
        at_least=known.at_least,
        oldest=known.oldest_age_s,
        arrivals=known.arrival_rate,
        settled=known.ack_rate,
    )


def _pin(request: dict[str, Any]) -> Pin:
    """Return a request for a number of processes as an event, checked."""
    target, seconds = request["target"], request.get("seconds")
    if target is not None and not (type(target) is int and 1 <= target <= MOST):
        raise ValueError(target)
    if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
        raise ValueError(seconds)
    return Pin(target, seconds)


def _log(level: int, text: str) -> None:
    """Log a text; lines after its first are shown as a traceback is, since that is what they are."""
    head, _, rest = text.partition("\n")
    if log.isEnabledFor(level):
        log.handle(log.makeRecord(log.name, level, __file__, 0, head, (), None, sinfo=rest or None))


def has_terminal() -> bool:
    """Tell whether there is a controlling terminal, whose hangup is sent to us."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
