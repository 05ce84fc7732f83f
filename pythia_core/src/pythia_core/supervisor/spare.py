"""The parent's side of a spare process, which has workers and subscribes to nothing: started, heard, replaced, ended.

The supervisor has one that asks workers for their opinion; a fleet seen from outside has one that asks how much is left.
It stands apart from the machine, since nothing depends on it: no message is in it, and while it is away nothing changes.

Invariants: there is at most one; one that ended by itself is replaced after 30 s, but not one that says that another
would end the same way; it never outlives ``close``.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import attrs

from pythia_core.contracts import Opinion
from pythia_core.supervisor.wire import Mailbox, Options

__all__ = ["Spare"]

AGAIN_SECONDS = 30.0
ASKING = "pythia_core.supervisor.asking"

log = logging.getLogger("pythia.supervisor")


@attrs.define(eq=False)
class Spare:
    """One spare process at a time.

    Args:
        options: what it is told, as a child is.
        module: what it runs.
        purpose: what it does, for the log.
        arguments: more of them, after the target.
        again: seconds until one that ended is replaced.
    """

    options: Options
    module: str = ASKING
    purpose: str = "asks workers whether to scale"
    arguments: Sequence[str] = ()
    again: float = AGAIN_SECONDS
    opinions: dict[str, Opinion] = attrs.field(factory=dict[str, Opinion], init=False)
    heard: list[dict[str, Any]] = attrs.field(
        factory=list, init=False
    )  # all else that it said; whoever reads takes it
    fault: str = attrs.field(default="", init=False)  # why another one would end the same way
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)
    _mailbox: Mailbox | None = attrs.field(default=None, init=False)
    _next: float = attrs.field(default=0.0, init=False)
    _hopeless: bool = attrs.field(default=False, init=False)

    def look(self, now: float) -> bool:
        """Start it if it is due, and take what it says; return whether there is something new. Called often."""
        if self._process is None and now >= self._next and not self._hopeless:
            self._start(now)
        fresh = self._listen(now)
        if self._process is not None and self._process.poll() is not None:
            log.log(
                logging.INFO if self._hopeless else logging.WARNING,
                "the process that %s ended with %d",
                self.purpose,
                self._process.returncode,
            )
            self._forget(now)
        return fresh

    def _start(self, now: float) -> None:
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), self.options.target, *self.arguments]
        command = [sys.executable, "-P", "-m", self.module, *arguments]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        except OSError as error:
            log.error("the process that %s cannot be started: %s", self.purpose, error)
            ours.close()
            self._next = now + self.again
            return
        finally:
            theirs.close()
        self._mailbox = Mailbox(ours)
        told = attrs.evolve(self.options, number=0, supervisor=os.getpid())
        self._mailbox.send(attrs.asdict(told))
        log.info("the process that %s started, pid %d", self.purpose, self._process.pid)

    def _listen(self, now: float) -> bool:
        fresh = False
        for message in self._mailbox.receive() if self._mailbox is not None else ():
            if message["type"] == "fault":
                self._hopeless = message["hopeless"]
                self.fault = message["text"] if self._hopeless else ""
                log.error("the process that %s cannot: %s", self.purpose, message["text"])
                continue
            fresh = True
            if message["type"] == "opinion":
                worker = message["worker"]
                self.opinions[worker] = Opinion(worker=worker, at=now, change=message["change"])
            else:
                self.heard.append(message)
        return fresh

    def _forget(self, now: float) -> None:
        if self._mailbox is not None:
            self._mailbox.close()
        self._process = self._mailbox = None
        self._next = now + self.again

    def close(self) -> None:
        """End it at once: it holds nothing."""
        self._hopeless = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget(0.0)
