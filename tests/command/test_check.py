"""`pythia check`: what it finds good, what it finds wrong, and that it says so in words."""

import json
import os
from pathlib import Path

import pytest

from pythia_core import budget, checking
from pythia_core.budget import MIB
from pythia_core.checking import Finding, Plan, check_target
from pythia_core.returns import returning_lines
from tests.command.conftest import WORKER, Pythia
from tests.plugins.handmade import Handmade

CANARY = "canary-5f2c"


def found(target: str = "orders.py", **plan: object) -> list[Finding]:
    """Check a target in an environment that says nothing."""
    return list(check_target(target, Plan(**{"environ": {"PYTHIA_PLUGINS": ""}, "limit": None, **plan})))  # type: ignore[arg-type]


def texts(findings: list[Finding], level: str) -> str:
    """Return what was found at one level."""
    return "\n".join(finding.text for finding in findings if finding.level == level)


def test_a_good_worker_is_described(pythia: Pythia, worker: Path) -> None:
    """Source, group, concurrency, sink, dead letters and drain, and exit code 0."""
    done = pythia("check", "orders.py")
    assert done.exit_code == 0, done.output
    for told in (
        "reads orders by MemoryConsumer as group order-processor",
        "processes up to 20 messages at once",
        "sends what it returns to done by MemoryProducer",
        "sends what cannot be processed to orders.dlq",
        "drains for up to 25 s; let whoever stops it wait 35 s",
        "good to run",
    ):
        assert told in done.output


def test_the_bound_on_processors_is_told(pythia: Pythia, folder: Path) -> None:
    """With what it does; one above 100 per cent is wrong, since it would never be reached."""
    (folder / "orders.py").write_text(WORKER.replace("batch_size=5", "max_cpu_percent=80"))
    assert "while the processors are more than 80 % busy" in texts(found(), "ok")
    (folder / "orders.py").write_text(WORKER.replace("batch_size=5", "max_cpu_percent=101"))
    assert "a number above 0 and at most 100" in texts(found(), "error")


def test_findings_are_json_for_programs(pythia: Pythia, worker: Path) -> None:
    """Each with level, text and worker."""
    findings = json.loads(pythia("check", "orders.py", "--json").output)
    assert {
        "level": "ok",
        "text": "reads orders by MemoryConsumer as group order-processor",
        "worker": "order-processor",
    } in findings


BAD = {
    "no source": (WORKER.replace('source = MemoryConsumer("orders")', ""), "worker order-processor has no source"),
    "no file's class": ("x = 1", "defines no worker"),
    "does not import": ("import nowhere_at_all", "importing orders.py raised ModuleNotFoundError: No module named 'nowhere_at_all' ("),
    "misspelt": (WORKER.replace("def process(", "def proces("), "has a process(self, message): OrderProcessor; was proces meant to be process?"),
    "exits": ("raise SystemExit(3)", "importing orders.py raised SystemExit: 3"),
    "cannot be made": (WORKER.replace("async def process", "def __init__(self):\n        1 / 0\n\n    async def process"), "making a OrderProcessor raised ZeroDivisionError: division by zero ("),
    "bad value": (WORKER.replace("batch_size=5", "batch_size=0"), "batch_size is 0 (code)"),
    "drain too long": (WORKER.replace('("orders")', '("orders", ack="cumulative", rebalances="eager", revoke_seconds=5)').replace("batch_size=5", "drain_timeout=20"), "drain_timeout is 20 s (code), but orders waits only 5 s"),
    "settings disagree": (WORKER.replace('("orders")', '("orders", ack="cumulative", order_scope="none")'), "order_scope"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "told"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_told_and_exits_1(pythia: Pythia, folder: Path, code: str, told: str) -> None:
    """In one line, with the place in the user's file where there is one."""
    (folder / "orders.py").write_text(code)
    done = pythia("check", "orders.py")
    assert done.exit_code == 1, done.output
    assert told in done.output
    assert "✗" in done.output and "Traceback" not in done.output


def test_a_missing_file_is_told_with_its_neighbour(pythia: Pythia, worker: Path) -> None:
    """A misspelt name costs one look."""
    assert "did you mean orders.py?" in pythia("check", "ordres.py").output


BODIES = {
    "a value": ("return message.body", "line 12"),
    "two values": ("if message: return 1\n        return 2", "line 12, 13"),
    "in a loop": ("for _ in 'ab':\n            with open('x'):\n                return 1", "line 14"),
    "in a batch": ("return 1\n    async def process_batch(self, messages):\n        return 2", "line 14"),
}
SILENT = {
    "nothing": "print(message)",
    "a bare return": "return",
    "none": "return None",
    "another function's": "def inner(): return 1\n        async def more(): return 2\n        f = lambda: 3",
    "perhaps its own sink": "from pythia_core import Output\n        return Output(self.audit, 1)",
}


@pytest.mark.parametrize(("body", "where"), BODIES.values(), ids=BODIES)
def test_what_is_returned_without_a_sink_is_warned_of(folder: Path, body: str, where: str) -> None:
    """It is dropped, in silence otherwise; the line is named."""
    code = WORKER.replace('sink = MemoryProducer("done")', "").replace("return message.body", body)
    (folder / "orders.py").write_text(code)
    assert f"returns is dropped ({where}): write `sink = ...`" in texts(found(), "warning")


@pytest.mark.parametrize("body", SILENT.values(), ids=SILENT)
def test_without_a_sink_and_a_return_it_is_only_noted(folder: Path, body: str) -> None:
    """Nothing is dropped, as far as can be seen."""
    code = WORKER.replace('sink = MemoryProducer("done")', "").replace("return message.body", body)
    (folder / "orders.py").write_text(code)
    assert "returns is dropped" not in texts(found(), "warning")
    assert "has no sink: if it returns anything, that is dropped" in texts(found(), "note")


DELAYS = {
    "its own sink": ("return Output(None, 1, delay=5)", "asks for a delay in line 13"),
    "the same, named": ("return Output(sink=self.sink, value=1, delay=5)", "asks for a delay in line 13"),
    "sent": ("await self.sink.send(1, delay=5)", "asks for a delay in line 13"),
    "another one": ("return Output(self.audit, 1, delay=5)", "MemoryProducer cannot hold an output back"),
    "one that can": ("return Output(self.later, 1, delay=5)", ""),
    "none": ("return Output(self.sink, 1, delay=None)", ""),
    "something else": ("return self.shipping(1, delay=5)", ""),
}


@pytest.mark.parametrize(("body", "told"), DELAYS.values(), ids=DELAYS)
def test_a_delay_that_a_sink_cannot_keep_is_an_error(folder: Path, body: str, told: str) -> None:
    """It is known from the source, before a message becomes a dead letter by it."""
    sinks = (
        'sink = MemoryProducer("done", delays=False)\n    audit = MemoryProducer("audit", delays=False); '
        'later = MemoryProducer("later")'
    )
    code = WORKER.replace('sink = MemoryProducer("done")', sinks).replace("return message.body", body)
    (folder / "orders.py").write_text(code.replace("import Secret", "import Output, Secret"))
    found_texts = texts(found(), "error")
    assert told in found_texts
    assert bool(told) == ("delay" in found_texts)


def test_a_function_without_a_source_returns_nothing_that_can_be_seen() -> None:
    """It was typed in, or is written in C."""
    assert returning_lines(print) == []


@pytest.mark.parametrize(("most", "told"), [(1, "one message at a time"), (2, "up to 2 messages at once")])
def test_how_many_run_at_once_is_told(folder: Path, most: int, told: str) -> None:
    """In words that fit the number."""
    (folder / "orders.py").write_text(WORKER.replace("batch_size=5", f"max_concurrent_tasks={most}"))
    assert f"processes {told} in each process" in texts(found(), "ok")


LONG = "a handler may run for 60 s (handler_timeout), but a stop waits only 25 s"
PLAIN = "its handler is a plain function, in a thread that nothing can stop"
LEASED = "orders leases messages for 30 s"


@pytest.mark.parametrize(
    ("config", "source", "define", "told"),
    [
        ("handler_timeout=60", "", "async def", LONG),
        ("handler_timeout=25", "", "async def", ""),
        ("handler_timeout=5", "", "def", PLAIN),
        ("batch_size=5", "", "def", ""),
        ("batch_size=5", ", lease_seconds=30", "async def", LEASED),
        ("handler_timeout=31, drain_timeout=40", ", lease_seconds=30", "async def", LEASED),
        ("handler_timeout=30, drain_timeout=40", ", lease_seconds=30", "async def", ""),
    ],
)
def test_the_time_of_handlers_is_compared_with_what_waits_for_them(
    folder: Path, config: str, source: str, define: str, told: str
) -> None:
    """A drain, a thread, a lease."""
    code = WORKER.replace("batch_size=5", config).replace('("orders")', f'("orders"{source})')
    (folder / "orders.py").write_text(code.replace("async def", define))
    findings = found()
    said = [
        text for text in (LONG, PLAIN, LEASED) if text in texts(findings, "warning") + texts(findings, "note")
    ]
    assert said == ([told] if told else [])


def test_a_worker_that_reads_dead_letters_is_asked_for_a_place(pythia: Pythia, folder: Path) -> None:
    """Dead letters of dead letters would pile up where nobody looks; naming a place, or none, is enough."""
    code = WORKER.replace('MemoryConsumer("orders")', 'MemoryConsumer("orders.dlq")')
    (folder / "orders.py").write_text(code)
    done = pythia("check", "orders.py")
    assert done.exit_code == 1
    assert (
        "orders.dlq has no natural place for dead letters: set dead_letter= to a sink, or to None"
        in done.output
    )
    (folder / "orders.py").write_text(code.replace("batch_size=5", "dead_letter=MemoryProducer('graves')"))
    assert pythia("check", "orders.py").exit_code == 0


def container(root: Path, limit: int) -> Path:
    """Return a folder that stands for a machine's root, with a control group of so many MiB."""
    for name, text in {
        "proc/self/cgroup": "0::/pod\n",
        "sys/fs/cgroup/pod/memory.max": str(limit * MIB),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("processes", "code"), [(3, 0), (4, 1)])
def test_the_command_reads_the_limit_of_the_container(
    pythia: Pythia, folder: Path, monkeypatch: pytest.MonkeyPatch, processes: int, code: int
) -> None:
    """4 x 512 + 64 is more than 0.85 of 2,000 MiB, 3 x 512 + 64 is not."""
    monkeypatch.setattr(budget.memory_limit, "__defaults__", (container(folder, 2000),))
    (folder / "orders.py").write_text(WORKER.replace("batch_size=5", "max_memory_mb=512"))
    done = pythia("check", "orders.py", "-n", str(processes))
    assert done.exit_code == code, done.output
    assert ("4 x max_memory_mb 512 + 64 for the supervisor is 2112 MiB" in done.output) is bool(code)


def test_without_dead_letters_a_failure_stops_its_partition(folder: Path) -> None:
    """Which is allowed, and worth a warning."""
    (folder / "orders.py").write_text(WORKER.replace("batch_size=5", "dead_letter=None"))
    assert "has no dead letters" in texts(found(), "warning")


def test_order_over_processes_is_not_promised(folder: Path) -> None:
    """order="key" on a source that deals messages out holds within one process."""
    (folder / "orders.py").write_text(WORKER.replace("batch_size=5", 'order="key"'))
    assert "order='key' holds within one process only" in texts(found(), "warning")


def test_processes_that_do_not_fit_are_refused(folder: Path) -> None:
    """N x max_memory_mb + 64 against 0.85 of the container's limit."""
    (folder / "orders.py").write_text(WORKER.replace("batch_size=5", "max_memory_mb=512"))
    assert "4 x max_memory_mb 512 + 64" in texts(found(processes=4, limit=2000 * MIB), "error")
    assert texts(found(processes=3, limit=2000 * MIB), "error") == ""


def test_a_container_without_a_bound_is_noted(worker: Path) -> None:
    """Past the limit the kernel kills, and nothing drains."""
    assert "has no max_memory_mb" in texts(found(limit=512 * MIB), "note")


@pytest.mark.parametrize(("uid", "told"), [(0, True), (1000, False)])
def test_root_is_warned_of(worker: Path, monkeypatch: pytest.MonkeyPatch, uid: int, told: bool) -> None:
    """A worker needs no rights."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert ("this is root" in texts(found(), "warning")) is told


def test_a_misspelt_variable_is_warned_of(worker: Path) -> None:
    """It would be ignored in silence otherwise."""
    environ = {"PYTHIA_PLUGINS": "", "PYTHIA_BATCHSIZE": "1"}
    assert "did you mean PYTHIA_BATCH_SIZE?" in texts(found(environ=environ), "warning")


def test_a_broken_plugin_is_reported_and_the_worker_still_checked(worker: Path, installed: Handmade) -> None:
    """One error does not hide the rest."""
    installed.add("bad", "raise RuntimeError('no luck')")
    findings = found(environ={"PYTHIA_PLUGINS": "bad"})
    assert "plugin bad (bad-pythia 1.0) is broken" in texts(findings, "error")
    assert "reads orders" in texts(findings, "ok")


def test_a_worker_of_a_file_only_is_checked(folder: Path) -> None:
    """Source and sink of a configuration file count as the worker's."""
    code = WORKER.replace('source = MemoryConsumer("orders")', "").replace(
        'sink = MemoryProducer("done")', ""
    )
    (folder / "orders.py").write_text(code)
    (folder / "p.toml").write_text(
        '[worker.source]\nkind = "memory"\ntopic = "from-file"\n[worker.sink]\nkind = "memory"\ntopic = "to-file"\n'
    )
    told = texts(found(file=folder / "p.toml"), "ok")
    assert "reads from-file" in told and "sends what it returns to to-file" in told


def test_connecting_asks_source_sink_and_dead_letters(worker: Path) -> None:
    """Each answers for itself."""
    told = texts(found(connect=True), "ok")
    assert "the source orders is there; 0 waiting, 0 in flight" in told
    assert "the sink done can be written to" in told
    assert "the place for dead letters orders.dlq can be written to" in told


def test_a_broker_that_does_not_answer_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusing or silent, and its password is not shown."""
    broken = (
        WORKER
        + f"""

class Down(MemoryConsumer):
    def inspect(self):
        raise ConnectionError("redis://u:{CANARY}@h refused")


class Silent(MemoryProducer):
    async def check(self):
        import anyio

        await anyio.sleep_forever()


OrderProcessor.source = Down("orders")
OrderProcessor.sink = Silent("done")
"""
    )
    (folder / "orders.py").write_text(broken)
    monkeypatch.setattr(checking, "CONNECT_SECONDS", 0.05)
    told = texts(found(connect=True), "error")
    assert "the source orders cannot be used: ConnectionError" in told
    assert "the sink done did not answer within 0.05 s" in told


def test_the_printed_findings_have_no_password(pythia: Pythia, folder: Path) -> None:
    """Whatever a user's code puts into its error."""
    (folder / "orders.py").write_text(f"raise ValueError('redis://u:{CANARY}@h')")
    for options in ((), ("--json",)):
        output = pythia("check", "orders.py", *options).output
        assert CANARY not in output and "redis://u:****@h" in output


SCALED = """
    async def should_scale_up(self):
        return False

    async def should_scale_down(self):
        return False
"""
UP, DOWN = (part + "\n" for part in SCALED.split("\n\n"))


@pytest.mark.parametrize(
    ("answers", "policy", "level", "told"),
    [
        ("", "worker", "error", "defines neither should_scale_up nor should_scale_down"),
        (UP, "worker", "warning", "never fewer again"),
        (DOWN, "worker", "warning", "never be more processes"),
        (SCALED, "worker", "ok", "is asked whether to scale every 60 s"),
        (SCALED, None, "note", "nobody asks its should_scale_up and should_scale_down"),
        ("", "nonsense", "error", "nonsense"),
    ],
)
def test_a_policy_that_asks_the_worker_needs_its_answers(
    worker: Path, answers: str, policy: str | None, level: str, told: str
) -> None:
    """What `--policy worker` would say in the log of a fleet that runs already is known before."""
    worker.write_text(WORKER.partition("\nif __name__")[0] + answers)
    assert told in texts(found(policy=policy), level)
