"""One run of chaos: fills a broker, breaks it and its workers, looks on, lets it come to rest, and has it judged."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from random import Random

import attrs

from tests.chaos.broker import Broker, find_broker
from tests.chaos.checker import Rules, Verdict, check
from tests.chaos.events import Log, read_events
from tests.chaos.fleet import Deployment
from tests.chaos.generator import Generator
from tests.chaos.nemesis import Nemesis
from tests.chaos.observer import Observer


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be done.

    Args:
        broker: its name.
        seconds: for how long.
        seed: of everything that is left to chance here.
        rate: messages a second.
        worker: what runs; only a test of the judge names another one.
        deployments: how many of `pythia run`.
        processes: of each.
    """

    broker: str = "redis"
    seconds: float = 600.0
    seed: int = 0
    rate: float = 200.0
    worker: str = "tests.chaos.worker"
    deployments: int = 2
    processes: int = 2


def run(plan: Plan, folder: Path) -> Verdict:
    """Do it, with the history and what the workers print in a folder, and judge."""
    (folder / "history").mkdir(parents=True)
    kind = find_broker(plan.broker)
    with kind() as broker, _deployed(plan, broker, folder) as deployments:
        _break(plan, broker, deployments, folder / "history")
    return judge(folder, plan.broker)


def judge(folder: Path, broker: str) -> Verdict:
    """Judge the history in a folder."""
    kind = find_broker(broker)
    return check(read_events(folder / "history"), Rules(ordered=kind.ordered, patience=kind.patience))


@contextmanager
def _deployed(plan: Plan, broker: Broker, folder: Path) -> Iterator[list[Deployment]]:
    history = folder / "history"
    environ = {**broker.environ, "CHAOS_BROKER": plan.broker, "CHAOS_HISTORY": str(history)}
    log = Log(history, "deployments")
    deployments = [
        Deployment(plan.worker, plan.processes, environ, history, folder / f"deployment-{number}.log", log)
        for number in range(plan.deployments)
    ]
    try:
        for deployment in deployments:
            deployment.start()
        yield deployments
    finally:
        for deployment in deployments:
            deployment.close()


def _break(plan: Plan, broker: Broker, deployments: list[Deployment], history: Path) -> None:
    enough, over = threading.Event(), threading.Event()
    generator = Generator(
        broker.sender(), Log(history, "generator"), Random(plan.seed), plan.rate, broker.killers
    )
    nemesis = Nemesis(broker, deployments, Log(history, "nemesis"), Random(plan.seed), enough)
    observer = Observer(broker.asker(), Log(history, "observer"))
    with ThreadPoolExecutor() as pool:
        futures = [
            pool.submit(generator.run, enough),
            pool.submit(nemesis.run),
            pool.submit(observer.run, over),
        ]
        try:
            wait(
                futures, timeout=plan.seconds, return_when=FIRST_COMPLETED
            )  # before the time only by an error
            enough.set()
            wait(futures[:2])
            _come_to_rest(observer, broker.rest)
            for deployment in deployments:
                deployment.stop()
        finally:
            enough.set()
            over.set()
        for future in futures:
            future.result()


def _come_to_rest(observer: Observer, seconds: float) -> None:
    """Wait until nothing is left, but not for ever: the judge will say what was."""
    deadline = time.monotonic() + seconds
    while not observer.at_rest and time.monotonic() < deadline:
        time.sleep(0.1)
