"""`pythia run --each`: every worker of a file has a fleet of its own, and all of them are one to whoever started them."""

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import attrs
import psutil
import pytest

from pythia_core.by_worker import ByWorker
from pythia_core.errors import ConfigError
from pythia_core.supervisor.shell import Supervisor
from pythia_core.supervisor.stages import plan_each
from pythia_core.supervisor.starting import Plan, supervise
from tests.supervisor.running import COMMAND, Running, environment, is_alive, run, wait_for_death
from tests.supervisor.test_control import short
from tests.waiting import wait_until

__all__ = ["short"]

STAGES = """
import json, os
from pathlib import Path
from pythia_core import Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer

HERE = Path(__file__).parent


class Stage(Worker):
    scale_check_interval = 0.2

    async def startup(self):
        with open(HERE / "events", "a") as file:
            file.write(json.dumps({"what": type(self).__name__, "pid": os.getpid()}) + "\\n")

    async def process(self, message):
        pass

    async def should_scale_up(self):
        return False

    async def should_scale_down(self):
        return True


class First(Stage):
    source = MemoryConsumer("raw", broker=MemoryBroker())


class Second(Stage):
    source = MemoryConsumer("validated", broker=MemoryBroker())

    async def should_scale_up(self):
        return not (HERE / "calm").exists()
"""


def alive(running: Running) -> Counter[str]:
    """Return how many processes of each stage are alive."""
    return Counter(event["what"] for event in running.events() if is_alive(event["pid"]))


def supervisors(running: Running) -> dict[str, psutil.Process]:
    """Return the supervisor of each stage, by its name."""
    found = psutil.Process(running.pid).children()
    return {process.cmdline()[-1].rpartition(":")[2]: process for process in found}


def ask(*arguments: str) -> str:
    """Return what a command says, which has to succeed."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment() | runtime(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def runtime() -> dict[str, str]:
    """Return where control sockets are."""
    return {"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}


@pytest.mark.slow
def test_a_stage_is_scaled_by_itself(tmp_path: Path, short: Path) -> None:
    """By its own word the second has three processes and the first keeps one; when it is calm it has one again."""
    with run(tmp_path, "--each", "--max", "3", "--policy", "worker", text=STAGES) as running:
        wait_until(lambda: alive(running) == {"First": 1, "Second": 3}, "the second has three", seconds=60)
        (tmp_path / "calm").touch()
        wait_until(lambda: alive(running) == {"First": 1, "Second": 1}, "the second has one", seconds=60)
        assert len(running.events("First")) == 1
        assert "Second process 2 " in running.output()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        wait_for_death([event["pid"] for event in running.events()])


def test_a_stage_is_commanded_by_its_name(tmp_path: Path, short: Path) -> None:
    """`pythia scale 2 --fleet Second` adds a process to the second alone; a signal to all adds one to each."""
    with run(tmp_path, "--each", text=STAGES) as running:
        wait_until(lambda: alive(running) == {"First": 1, "Second": 1}, "each has one", seconds=60)
        assert "pinned to 2" in ask("scale", "2", "--fleet", "Second")
        wait_until(lambda: alive(running) == {"First": 1, "Second": 2}, "the second has two", seconds=60)
        assert "jobs.py:First" in ask("top", "--once", "--fleet", "First")
        every = ask("top", "--once", "--all")
        assert "jobs.py:First" in every and "jobs.py:Second" in every
        assert [fleet["target"] for fleet in json.loads(ask("top", "--json", "--all"))] in ([1, 2], [2, 1])
        running.signal(signal.SIGTTIN)
        wait_until(lambda: alive(running)["First"] == 2, "the first has two", seconds=60)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert not list((short / "pythia").glob("*.sock"))


def test_a_supervisor_that_is_killed_is_started_again_and_one_that_is_stopped_is_not(
    tmp_path: Path, short: Path
) -> None:
    """The other stage notices nothing of either."""
    with run(tmp_path, "--each", text=STAGES) as running:
        wait_until(lambda: alive(running) == {"First": 1, "Second": 1}, "each has one", seconds=60)
        before = supervisors(running)
        before["Second"].kill()
        wait_until(lambda: len(running.events("Second")) == 2, "the second is back", seconds=60)
        supervisors(running)["Second"].terminate()
        running.wait_for_text("Second has been stopped; the others go on")
        assert supervisors(running) == {"First": before["First"]}
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert len(running.events("First")) == 1


def test_a_hangup_rolls_every_stage(tmp_path: Path, short: Path) -> None:
    """Each replaces its processes, and none is missed."""
    with run(tmp_path, "--each", text=STAGES) as running:
        wait_until(lambda: alive(running) == {"First": 1, "Second": 1}, "each has one", seconds=60)
        running.wait_until_ready(2)
        running.signal(signal.SIGHUP)
        rolled = lambda: len(running.events("First")) == len(running.events("Second")) == 2
        wait_until(rolled, "each has started another", seconds=60)
        wait_until(lambda: alive(running) == {"First": 1, "Second": 1}, "the old ones are gone", seconds=60)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0


def test_a_stage_that_cannot_run_ends_all(tmp_path: Path, short: Path) -> None:
    """A pipeline with a stage missing only fills up a queue: it says so and ends with 1."""
    broken = STAGES + "\n    def __init__(self, *, database):\n        super().__init__()\n"
    with run(tmp_path, "--each", text=broken) as running:
        assert running.ends() == 1
        assert "Second cannot be made without database" in running.output()
        assert "Second has given up with exit code 1, so all are stopped" in running.output()
        wait_for_death([event["pid"] for event in running.events()])


def test_nobody_outlives_a_parent_that_is_killed(tmp_path: Path, short: Path) -> None:
    """Each supervisor stops as if it were told to, and its processes drain."""
    with run(tmp_path, "--each", text=STAGES) as running:
        wait_until(lambda: alive(running) == {"First": 1, "Second": 1}, "each has one", seconds=60)
        left = [process.pid for process in supervisors(running).values()]
        running.signal(signal.SIGKILL)
        wait_for_death(left)
        wait_for_death([event["pid"] for event in running.events()])


def test_a_file_that_does_not_load_is_told_once(tmp_path: Path, short: Path) -> None:
    """In the words of `pythia run`, and nothing is started."""
    with run(tmp_path, "--each", text="import nothing_like_it\n") as running:
        assert running.ends() == 1
        assert running.output().count("No module named 'nothing_like_it'") == 1


def test_a_file_of_one_worker_needs_no_fleets(tmp_path: Path, short: Path) -> None:
    """It runs as without --each."""
    text = STAGES.partition("class Second")[0]
    with run(tmp_path, "--each", text=text) as running:
        wait_until(lambda: alive(running) == {"First": 1}, "it runs", seconds=60)
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert "a supervisor of its own" not in running.output()


def test_each_has_a_port_of_its_own() -> None:
    """Counted up from the one that was given, in the order of the file; any free one stays any."""
    plan = Plan(target="jobs.py", listen="0.0.0.0:9464")
    plans = plan_each(plan, ["First", "Second"])
    assert [(made.target, made.listen) for made in plans] == [
        ("jobs.py:First", "0.0.0.0:9464"),
        ("jobs.py:Second", "0.0.0.0:9465"),
    ]
    assert plan_each(attrs.evolve(plan, listen="[::1]:0"), ["First", "Second"])[1].listen == "[::1]:0"


def test_a_stage_has_the_policy_of_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`[worker.NAME.scaling]` of the file is for that stage, `[worker.scaling]` for all others."""
    file = tmp_path / "pythia.toml"
    file.write_text('[worker.scaling]\nkind = "drain"\n[worker.second.scaling]\nkind = "worker"\n')
    made: list[Supervisor] = []

    def keep(supervisor: Supervisor) -> int:
        made.append(supervisor)
        return 0

    monkeypatch.setattr(Supervisor, "run", keep)
    for plan in plan_each(Plan(target="jobs.py", config=str(file), scaled=True, most=3), ["First", "Second"]):
        assert supervise(plan) == 0
    policies = [type(supervisor.scaler.policy) for supervisor in made if supervisor.scaler]
    assert policies[1] is ByWorker
    assert policies[0] is not ByWorker


def test_one_socket_is_not_shared() -> None:
    """The error says what to do instead."""
    with pytest.raises(ConfigError, match="leave it out, or say none"):
        plan_each(Plan(target="jobs.py", control="/tmp/my.sock"), ["First", "Second"])


def test_memory_is_counted_for_all() -> None:
    """What a container may use is shared by every fleet in it."""
    assert [plan.fleets for plan in plan_each(Plan(target="jobs.py"), ["First", "Second"])] == [2, 2]
