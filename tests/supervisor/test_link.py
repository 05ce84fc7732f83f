"""A child's end of the pipe, tried on a real child whose supervisor is this test."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from pythia_core.supervisor.wire import Mailbox

NEVER_ENDING = """
from pythia import Worker
from pythia.brokers.memory import MemoryConsumer


class Waiting(Worker):
    source = MemoryConsumer("nothing")

    async def process(self, message):
        pass
"""


def test_a_stop_that_comes_with_the_options_is_heard(tmp_path: Path) -> None:
    """A child that starts slowly finds both in its pipe at once, and does not begin what it should end."""
    worker = tmp_path / "worker.py"
    worker.write_text(NEVER_ENDING)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        mailbox = Mailbox(ours)
        mailbox.send({"target": str(worker), "supervisor": os.getpid()})
        mailbox.send({"do": "stop"})
        descriptor = theirs.fileno()
        command = [
            sys.executable,
            "-P",
            "-m",
            "pythia_core.supervisor.child",
            str(descriptor),
            str(worker),
            "0",
        ]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[descriptor]) as child:
            try:
                assert child.wait(timeout=20) == 0
            finally:
                child.kill()
