"""The nemesis: breaks one thing after another, as its seed will have it, writes it down, and mends it again."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

import attrs

from tests.chaos.broker import Broker
from tests.chaos.events import Log
from tests.chaos.fleet import Deployment, send
from tests.servers.server import Server

GRACEFUL = ("stop", "roll", "orphan")
FAULTS = {
    "kill worker": 6.0,
    "freeze worker": 3.0,
    "kill broker": 3.0,
    "restart broker": 2.0,
    "pause broker": 2.0,
    "freeze broker": 1.0,
    "stop": 3.0,
    "roll": 1.0,
    "orphan": 1.0,
}
"""What is done -> how often. The last three are graceful: no message may have a second effect for them."""

DISCONNECT = {"disconnect broker": 3.0}
"""Where the broker can do that."""


@attrs.define(eq=False)
class Nemesis:
    """Breaks things.

    Args:
        broker: what they read.
        deployments: who reads.
        log: where it is written down.
        random: decides.
        ended: set when it is enough.
    """

    broker: Broker
    deployments: Sequence[Deployment]
    log: Log
    random: Random
    ended: threading.Event
    _number: int = attrs.field(default=0, init=False)

    def run(self) -> None:
        """Go on until it is enough; everything is mended then."""
        faults = {**FAULTS, **(DISCONNECT if self.broker.disconnects else {})}
        while not self.ended.wait(self.random.uniform(0.3, 2.5)):
            (name,) = self.random.choices([*faults], [*faults.values()])
            deployment = self.random.choice(self.deployments)
            if name in GRACEFUL:
                self._end_gracefully(name, deployment)
            elif name.endswith("worker"):
                self._strike_worker(name, deployment)
            else:
                self._strike_broker(name, self.broker.server)

    def _end_gracefully(self, name: str, deployment: Deployment) -> None:
        getattr(deployment, name)()
        if name != "roll":
            deployment.start()

    def _strike_worker(self, name: str, deployment: Deployment) -> None:
        children = deployment.children()
        if not children:
            return  # all were struck, and are yet to be replaced
        pid = self.random.choice(children)
        with self._fault(name, lambda: [pid]):
            if name == "kill worker":
                send(pid, signal.SIGKILL)
                return
            send(pid, signal.SIGSTOP)
            self.ended.wait(self.random.uniform(1.0, 8.0))  # shorter and longer than a lease
            send(pid, signal.SIGCONT)

    def _strike_broker(self, name: str, server: Server) -> None:
        with self._fault(name, self._everybody):
            if name == "disconnect broker":
                self.broker.disconnect()
            elif name == "restart broker":
                server.restart()
            elif name == "kill broker":
                server.kill()
                self.ended.wait(self.random.uniform(0.0, 3.0))
                server.start()
            else:
                server.pause()
                self.ended.wait(self.random.uniform(0.2, 2.0) if name == "pause broker" else 8.0)
                server.resume()

    def _everybody(self) -> list[int]:
        return [pid for deployment in self.deployments for pid in deployment.children()]

    @contextmanager
    def _fault(self, name: str, victims: Callable[[], list[int]]) -> Iterator[None]:
        self._number += 1
        number = self._number
        self.log.write("fault", name=name, number=number, victims=victims())
        yield
        self.log.write("healed", number=number, victims=victims())
