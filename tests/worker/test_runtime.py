"""One worker from start to end: connections opened once and closed last, a broker that is down waited for."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest

from pythia_core import (
    ConfigError,
    Handler,
    Message,
    Middleware,
    Output,
    Resource,
    Sink,
    Stats,
    Telemetry,
    Worker,
    WorkerConfig,
    WriteError,
    WriteResult,
    resources,
)
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer, MemoryProducer
from pythia_core.engine.health import Exit
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime
from pythia_core.together import event_loop_options, run_together
from tests.waiting import eventually


@pytest.fixture
def broker() -> MemoryBroker:
    """A broker of the test's own."""
    return MemoryBroker()


@attrs.define(eq=False)
class Log:
    """What happened, in its order; shared by all copies of a resource."""

    lines: list[str] = attrs.field(factory=list)

    def __call__(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)


class Connection(Resource):
    """A resource that writes down what happens to it."""

    def __init__(self, log: Log, name: str, *, fails: int = 0, error: Exception | None = None) -> None:
        self.log, self.name, self.fails, self.error = log, name, fails, error

    async def open(self) -> None:
        if self.fails:
            self.fails -= 1
            self.log(f"refused {self.name}")
            raise self.error or ConnectionError("connection refused")
        self.log(f"open {self.name}")

    async def aclose(self) -> None:
        self.log(f"close {self.name}")


class Jobs(Worker[Any]):
    """A worker whose parts the tests replace."""

    def __init__(self, broker: MemoryBroker, log: Log | None = None, **kwargs: Any) -> None:
        super().__init__(source=MemoryConsumer("jobs", broker=broker), **kwargs)
        self.log = log or Log()

    async def startup(self) -> None:
        self.log("startup")

    async def process(self, message: Message[Any]) -> Any:
        self.log(f"process {message.body}")

    async def shutdown(self) -> None:
        self.log("shutdown")


class Hearing(Telemetry):
    """Telemetry that writes down that it was started, and what stops intake."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, stats: Stats) -> None:
        self.lines.append("start")

    def paused(self, reason: str, stopped: bool) -> None:
        self.lines.append(f"{reason} {stopped}")


def runtime(worker: Worker[Any], **options: Any) -> Runtime:
    """Return a runtime that sees no environment and no plugin."""
    return Runtime(worker, environ={}, registry=Registry(), **options)


@asynccontextmanager
async def running(runner: Runtime) -> AsyncIterator[Runtime]:
    """Run it beside the test, and stop it at the end."""
    async with anyio.create_task_group() as group:
        group.start_soon(runner.run)
        try:
            yield runner
        finally:
            runner.stop()


async def ready(runner: Runtime) -> None:
    """Wait until it consumes."""
    await eventually(lambda: runner.health().ready, "the worker was ready", seconds=5)


# The usual course ------------------------------------------------------------------------------------


async def test_a_message_is_processed_and_settled(broker: MemoryBroker) -> None:
    """Start, work, stop: each step once and in its order."""
    worker = Jobs(broker)
    broker.publish("jobs", 1)
    async with running(runtime(worker)) as runner:
        await eventually(lambda: "process 1" in worker.log.lines, "it was processed")
        assert runner.report()["counters"]["received"] == 1
    assert worker.log.lines == ["startup", "process 1", "shutdown"]
    assert len(broker.settled("jobs", "jobs")) == 1


async def test_a_paused_worker_fetches_nothing_until_it_is_resumed(broker: MemoryBroker) -> None:
    """Paused before it starts or while it runs; it stays ready, and says why it is idle."""
    worker, heard = Jobs(broker), Hearing()
    worker.config = WorkerConfig(telemetry=[heard])
    runner = runtime(worker)
    runner.pause()
    broker.publish("jobs", 1)
    async with running(runner):
        await ready(runner)
        assert "intake stopped: paused by an operator" in runner.health().reasons
        assert runner.report()["counters"]["received"] == 0
        runner.resume()
        await eventually(lambda: "process 1" in worker.log.lines, "it was processed")
        runner.pause()
        broker.publish("jobs", 2)
        assert "intake stopped: paused by an operator" in runner.health().reasons
        runner.resume()
        await eventually(lambda: "process 2" in worker.log.lines, "it was processed")
    assert heard.lines[:3] == ["start", "paused by an operator True", "paused by an operator False"]


async def test_run_returns_the_exit_code(broker: MemoryBroker) -> None:
    """A stop that was asked for is a clean one."""
    runner, codes = runtime(Jobs(broker)), []

    async def run() -> None:
        codes.append(await runner.run())

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await ready(runner)
        runner.stop()
    assert codes == [Exit.CLEAN]


async def test_what_process_returns_goes_to_the_sink(broker: MemoryBroker) -> None:
    """The worker's sink is opened, and the engine writes to it."""

    class Pipeline(Jobs):
        async def process(self, message: Message[Any]) -> Any:
            return message.body * 2

    broker.publish("jobs", 21)
    async with running(runtime(Pipeline(broker, sink=MemoryProducer("done", broker=broker)))):
        await eventually(lambda: records(broker, "done"), "it was written")
    assert records(broker, "done") == [b"42"]


def records(broker: MemoryBroker, topic: str) -> list[bytes]:
    """Return the bodies in a topic."""
    return [record.value for record in broker.records(topic)]


async def test_the_command_line_comes_first(broker: MemoryBroker) -> None:
    """What was given in code is the next."""
    runner = runtime(
        Jobs(broker, config=WorkerConfig(batch_size=3, max_concurrent_tasks=2)), overrides={"batch_size": "7"}
    )
    assert (runner.resolved.settings.batch_size, runner.resolved.settings.max_concurrent_tasks) == (7, 2)


async def test_several_workers_end_together(broker: MemoryBroker) -> None:
    """One that fails stops the others, which drain; the gravest exit code counts."""

    class Fails(Jobs):
        async def startup(self) -> None:
            await eventually(lambda: other.health().ready, "the other one was ready")
            raise RuntimeError("no")

    survivor = Jobs(broker)
    other = runtime(survivor)
    ended = await run_together([other, runtime(Fails(broker))], other.stop)
    assert ended.code == Exit.ERROR
    assert survivor.log.lines == ["startup", "shutdown"]


async def test_the_report_names_a_handler_that_ignores_its_cancellation(broker: MemoryBroker) -> None:
    """A plain function runs in a thread, which nothing can stop: whoever looks at the fleet reads which message it is."""
    end = threading.Event()

    class Blocks(Jobs):
        def process(self, message: Message[Any]) -> None:  # type: ignore[override]
            end.wait(10)

    broker.publish("jobs", 1)
    async with running(runtime(Blocks(broker, config=WorkerConfig(handler_timeout=0.05)))) as runner:
        try:
            await eventually(lambda: runner.report()["stuck"], "it is named")
            (said,) = runner.report()["stuck"]
            assert re.fullmatch(
                r"<Message .*> cancelled and not ended, as a thread never is, for \d+ s", said["text"]
            )
            assert (said["state"], said["why"]) == ("cancelled", "") and said["text"].startswith(
                said["message"]
            )
        finally:
            end.set()


# Connections -----------------------------------------------------------------------------------------


async def test_connections_are_opened_before_startup_and_closed_last(broker: MemoryBroker) -> None:
    """Also those that startup made; the worker sees opened copies, and afterwards has its originals again."""
    log = Log()
    original = Connection(log, "class")

    class Connected(Jobs):
        shared = original

        async def startup(self) -> None:
            assert self.shared is not original
            self.later = Connection(log, "startup")
            await super().startup()

    worker = Connected(broker, log)
    worker.again = worker.own = Connection(log, "instance")  # type: ignore[attr-defined]
    async with running(runtime(worker)) as runner:
        await ready(runner)
        assert worker.again is worker.own  # type: ignore[attr-defined]
    assert log.lines[:4] == ["open class", "open instance", "startup", "open startup"]
    assert log.lines[4] == "shutdown"
    assert sorted(log.lines[5:]) == ["close class", "close instance", "close startup"]
    assert "shared" not in vars(worker)
    assert worker.shared is original


class Counting(Middleware, Connection):
    """A middleware that is open while it is called, and counts what it is called with."""

    def __init__(self, log: Log, name: str) -> None:
        super().__init__(log, name)
        self.count = 0

    def wrap(self, handler: Handler) -> Handler:
        """Count."""

        async def counted(message: Message[Any]) -> Any:
            self.count += 1
            self.log(f"{self.name} {self.count}")
            return await handler(message)

        return counted


async def test_middleware_with_a_connection_is_opened_a_copy_for_each_worker(broker: MemoryBroker) -> None:
    """Before messages and until after the last; two workers that name one object have nothing in common."""
    log = Log()
    layer = Counting(log, "layer")
    for _ in range(2):
        broker.publish("jobs", 1)
        async with running(runtime(Jobs(broker, log, config=WorkerConfig(middleware=[layer])))):
            await eventually(lambda: "process 1" in log.lines, "it was processed")
        assert log.lines == ["startup", "open layer", "layer 1", "process 1", "shutdown", "close layer"]
        log.lines.clear()
    assert layer.count == 0


@pytest.mark.parametrize("where", ["startup", "open", "shutdown"])
async def test_connections_are_closed_whatever_fails(broker: MemoryBroker, where: str) -> None:
    """A failure on the way leaves nothing open."""
    log = Log()

    class Fails(Jobs):
        async def startup(self) -> None:
            if where == "startup":
                raise RuntimeError("startup")

        async def shutdown(self) -> None:
            raise RuntimeError("shutdown")

    worker = Fails(broker, log)
    worker.good = Connection(log, "good")  # type: ignore[attr-defined]
    if where == "open":
        worker.bad = Connection(log, "bad", fails=1, error=TypeError("a mistake"))  # type: ignore[attr-defined]
    runner = runtime(worker)
    if where == "shutdown":
        async with running(runner):
            await ready(runner)
    else:
        with pytest.raises((RuntimeError, TypeError)):
            await runner.run()
    assert "close good" in log.lines


async def test_a_close_that_hangs_is_left(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead network does not keep a process from ending."""
    monkeypatch.setattr("pythia_core.resources.CLOSE_SECONDS", 0.05)
    log = Log()

    class Hangs(Connection):
        async def aclose(self) -> None:
            await anyio.sleep_forever()

    worker = Jobs(broker, log)
    worker.hanging, worker.good = Hangs(log, "hanging"), Connection(log, "good")  # type: ignore[attr-defined]
    with anyio.fail_after(5):
        async with running(runtime(worker)) as runner:
            await ready(runner)
    assert "close good" in log.lines


async def test_a_broker_that_is_down_is_waited_for(broker: MemoryBroker) -> None:
    """The start does not fail; health says what is missing and that it is a broker."""
    log = Log()
    worker = Jobs(broker, log)
    worker.connection = Connection(log, "late", fails=2)  # type: ignore[attr-defined]
    async with running(runtime(worker)) as runner:
        await eventually(lambda: "refused late" in log.lines, "it was refused")
        await eventually(
            lambda: (
                "opening Connection: connection refused" in runner.health().reasons or runner.health().ready
            ),
            "it said why",
        )
        assert runner.waiting_for() in ("broker", "")
        await ready(runner)
    assert log.lines[:4] == ["refused late", "close late", "refused late", "close late"]


async def test_a_stop_ends_the_waiting_for_a_broker(broker: MemoryBroker) -> None:
    """However long it would take."""
    log = Log()
    worker = Jobs(broker, log)
    worker.connection = Connection(log, "never", fails=1_000_000)  # type: ignore[attr-defined]
    with anyio.fail_after(5):
        async with running(runtime(worker)):
            await eventually(lambda: "refused never" in log.lines, "it was refused")
    assert "startup" not in log.lines
    assert log.lines[-1] == "close never"


async def test_a_stop_before_the_start_starts_nothing(broker: MemoryBroker) -> None:
    """The signal may be quicker than the loop."""
    worker = Jobs(broker)
    runner = runtime(worker)
    runner.stop()
    assert await runner.run() == Exit.CLEAN
    assert worker.log.lines == []


# Dead letters ----------------------------------------------------------------------------------------


class Refusing(Sink):
    """A sink whose check fails."""

    def __init__(self, error: Exception, times: int = 1_000_000) -> None:
        self.error, self.times = error, [times]

    @property
    def name(self) -> str:
        return "refusing"

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        return WriteResult(range(len(outputs)))

    async def check(self) -> None:
        if self.times[0]:
            self.times[0] -= 1
            raise self.error


async def test_dead_letters_go_to_the_natural_place(broker: MemoryBroker) -> None:
    """Nobody has to configure anything for it."""

    class Fails(Jobs):
        async def process(self, message: Message[Any]) -> Any:
            raise ValueError("never")

    broker.publish("jobs", 1)
    async with running(runtime(Fails(broker), overrides={"retry.attempts": 1})):
        await eventually(lambda: records(broker, "jobs.dlq"), "it was dead-lettered")


async def test_without_a_place_for_dead_letters_the_start_asks_for_one(broker: MemoryBroker) -> None:
    """And takes None for an answer."""

    class Nowhere(MemoryConsumer):
        def dead_letters(self) -> None:
            return None

    worker = Jobs(broker)
    worker.source = Nowhere("jobs", broker=broker)
    with pytest.raises(ConfigError, match="no natural place for dead letters: set dead_letter="):
        await runtime(worker).run()
    worker.config = WorkerConfig(dead_letter=None)
    async with running(runtime(worker)) as runner:
        await ready(runner)


async def test_a_place_for_dead_letters_that_is_down_is_waited_for(broker: MemoryBroker) -> None:
    """It may be another broker than the source's."""
    worker = Jobs(broker, config=WorkerConfig(dead_letter=Refusing(ConnectionError("down"), times=1)))
    async with running(runtime(worker)) as runner:
        await ready(runner)


async def test_a_place_for_dead_letters_that_refuses_for_good_ends_the_start(broker: MemoryBroker) -> None:
    """A missing permission is found at the start, not at the first poison."""
    error = WriteError("no permission", permanent=True)
    worker = Jobs(broker, config=WorkerConfig(dead_letter=Refusing(error)))
    with pytest.raises(ConfigError, match="the place for dead letters, refusing: no permission"):
        await runtime(worker).run()


# Settings that disagree ------------------------------------------------------------------------------


def test_a_drain_that_the_broker_does_not_wait_for_is_refused(broker: MemoryBroker) -> None:
    """Else every rebalance would cost duplicates."""
    worker = Jobs(broker)
    worker.source = MemoryConsumer(
        "jobs", broker=broker, ack="cumulative", rebalances="eager", revoke_seconds=10
    )
    with pytest.raises(ConfigError, match=r"drain_timeout is 25 s \(default\), but jobs waits only 10 s"):
        runtime(worker)


def test_dead_letters_that_would_come_back_are_refused(broker: MemoryBroker) -> None:
    """Each would fail again, for ever."""
    worker = Jobs(broker)
    worker.config = WorkerConfig(dead_letter=MemoryProducer("jobs", broker=broker))
    with pytest.raises(ConfigError, match=r"would go to jobs \(code\), which jobs reads"):
        runtime(worker)
    worker.config = WorkerConfig(dead_letter=MemoryProducer("jobs", broker=MemoryBroker()))
    runtime(worker)


def test_a_config_of_the_users_own_is_not_mistaken_for_ours(broker: MemoryBroker) -> None:
    """The one name besides source and sink that means something says so."""
    worker = Jobs(broker)
    worker.config = {"database": "x"}  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"Jobs\.config is a dict; Pythia reads a WorkerConfig there"):
        runtime(worker)


async def test_the_start_says_how_far_an_order_reaches(
    broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a broker deals messages out, order by key is one process's only; where it keeps keys together nothing is said."""
    scopes: dict[Any, bool] = {"consumer": True, "partition": False}
    for scope, said in scopes.items():
        caplog.clear()
        worker = Jobs(broker)
        worker.source = MemoryConsumer(f"jobs-{scope}", broker=broker, order_scope=scope)
        async with running(runtime(worker, overrides={"order": "key"})) as runner:
            await ready(runner)
        assert ("order='key' holds within one process only" in caplog.text) == said


@pytest.mark.parametrize("wanted", [True, False])
def test_uvloop_is_an_option(broker: MemoryBroker, wanted: bool) -> None:
    """A worker runs on it from start to end where it is asked for, and on asyncio's own loop elsewhere."""
    worker, loops = Jobs(broker), list[str]()
    runner = runtime(worker, overrides={"uvloop": wanted})
    broker.publish("jobs", 1)

    async def main() -> None:
        loops.append(type(asyncio.get_running_loop()).__module__)
        async with running(runner):
            await eventually(lambda: "process 1" in worker.log.lines, "it was processed")

    anyio.run(main, backend="asyncio", backend_options=event_loop_options([runner]))
    assert loops[0].startswith("uvloop") == wanted
    assert len(broker.settled("jobs", "jobs")) == 1


# Threads ---------------------------------------------------------------------------------------------


async def test_threads_are_bounded_by_concurrency(broker: MemoryBroker) -> None:
    """Of plain functions and of offload, per worker."""
    lock, gate = threading.Lock(), threading.Event()
    most, now = [0], [0]

    class Blocking(Jobs):
        def process(self, message: Message[Any]) -> Any:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            gate.wait(10)
            with lock:
                now[0] -= 1

    for number in range(10):
        broker.publish("jobs", number)
    async with running(runtime(Blocking(broker), overrides={"max_concurrent_tasks": 3})) as runner:
        await eventually(lambda: now[0] == 3, "three ran")
        assert runner.busy() == 1.0
        gate.set()
        await eventually(lambda: runner.report()["counters"]["finished"] == 10, "all were done")
    assert most[0] == 3


async def test_a_drain_waits_for_offloaded_work(broker: MemoryBroker) -> None:
    """A thread that is under way is finished, and its message settled."""
    gate, entered = threading.Event(), threading.Event()

    def work() -> str:
        entered.set()
        gate.wait(10)
        return "done"

    class Offloads(Jobs):
        async def process(self, message: Message[Any]) -> Any:
            self.log(await self.offload(work))

    worker = Offloads(broker)
    broker.publish("jobs", 1)
    async with running(runtime(worker)) as runner:
        await eventually(entered.is_set, "the thread ran")
        runner.stop()
        gate.set()
    assert worker.log.lines == ["startup", "done", "shutdown"]
    assert len(broker.settled("jobs", "offloads")) == 1


# What nobody may miss ---------------------------------------------------------------------------------


async def test_serve_runs_the_worker_in_the_present_loop(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is cancelled."""
    monkeypatch.setenv("PYTHIA_PLUGINS", "")
    worker = Jobs(broker)
    broker.publish("jobs", 1)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.serve)
        await eventually(lambda: "process 1" in worker.log.lines, "it was processed")
        group.cancel_scope.cancel()
    assert worker.log.lines[-1] == "shutdown"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("fails", "closing Stubborn failed: ConnectionError: gone"),
        ("hangs", "Stubborn did not close within 0.05 s"),
    ],
)
async def test_a_resource_that_does_not_close_is_named(
    broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
    told: str,
) -> None:
    """It ends nothing but itself: the others are closed, and the worker has its originals back."""
    monkeypatch.setattr(resources, "CLOSE_SECONDS", 0.05)

    class Stubborn(Connection):
        async def aclose(self) -> None:
            if how == "fails":
                raise ConnectionError("gone")
            await anyio.sleep_forever()

    worker = Jobs(broker)
    worker.first, worker.second = original = Stubborn(worker.log, "1"), Connection(worker.log, "2")  # type: ignore[attr-defined]
    async with running(runtime(worker)) as runner:
        await ready(runner)
        assert worker.first is not original[0]  # type: ignore[attr-defined]
    assert "close 2" in worker.log.lines
    assert (worker.first, worker.second) == original  # type: ignore[attr-defined]
    assert [record.getMessage() for record in caplog.records if "Stubborn" in record.getMessage()] == [told]
