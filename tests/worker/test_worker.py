"""The worker class as users write it: nothing to learn, no name taken, and an error that says what to do."""

import threading
from typing import Any

import anyio.lowlevel
import pytest

from pythia_core import ConfigError, Message, Start, Worker, WorkerConfig
from pythia_core.brokers.memory import MemoryConsumer, MemoryProducer
from pythia_core.handlers import make_handler, takes_batches
from pythia_core.worker import NoSink, NoSource, worker_name
from tests.waiting import eventually

SOURCE = MemoryConsumer("orders")


class Orders(Worker[Any]):
    source = SOURCE

    async def process(self, message: Message[Any]) -> Any:
        return message


def test_a_worker_keeps_nothing_of_pythias_own() -> None:
    """Users take any name for themselves: metrics, executor, queue_size, limiter."""
    assert vars(Orders()) == {}


def test_arguments_come_before_class_attributes() -> None:
    """Source, sink and config may be given when it is made; the class stays as it is."""
    sink, source, config = MemoryProducer("done"), MemoryConsumer("other"), WorkerConfig(batch_size=3)
    worker = Orders(source=source, sink=sink, config=config)
    assert (worker.source, worker.sink, worker.config) == (source, sink, config)
    assert (Orders.source, Orders.config) == (SOURCE, None)


def test_keyword_arguments_can_be_handed_on() -> None:
    """The usual way to write __init__ works."""

    class Handed(Orders):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.metrics = self.executor = self.queue_size = 1

    assert Handed(config=WorkerConfig(batch_size=3)).metrics == 1


def test_an_unknown_argument_is_named_with_the_nearest() -> None:
    """A typing error costs a second and not an hour."""
    with pytest.raises(ConfigError, match=r"Orders takes no argument 'sorce'; did you mean source\?"):
        Orders(sorce=SOURCE)


def test_a_source_may_be_assigned_later() -> None:
    """A bare Worker() is made and then told its source."""
    worker: Worker[Any] = Worker()
    worker.source = SOURCE
    assert worker.source is SOURCE
    assert isinstance(Worker.source, NoSource)


def test_a_missing_source_says_where_to_write_it() -> None:
    """All the places are named."""
    with pytest.raises(
        ConfigError, match=r"worker orders has no source: write `source = \.\.\.` in its class"
    ):
        Worker.source.resolve(Start("orders"))


async def test_a_missing_sink_says_so_when_it_is_used() -> None:
    """Not before: most workers have none."""
    assert isinstance(Orders.sink, NoSink)
    with pytest.raises(ConfigError, match=r"write `sink = \.\.\.`"):
        await Orders().sink.send(1)


@pytest.mark.parametrize(
    ("name", "kebab"),
    [
        ("OrderProcessor", "order-processor"),
        ("HTTPOrders", "http-orders"),
        ("USEastWorker", "us-east-worker"),
        ("Orders_v2", "orders-v2"),
        ("orders", "orders"),
    ],
)
def test_a_workers_name_is_its_class_in_kebab_case(name: str, kebab: str) -> None:
    """It is also the default consumer group, so it never changes by itself."""
    assert worker_name(type(name, (Worker,), {})) == kebab


# Handlers -------------------------------------------------------------------------------------------


def test_an_async_process_is_called_directly() -> None:
    """No wrapper stands between the engine and the method: that is the hot path."""
    worker = Orders()
    assert make_handler(worker) == worker.process
    assert not takes_batches(worker)


async def test_a_plain_process_runs_in_a_thread() -> None:
    """The event loop stays free."""

    class Plain(Worker[Any]):
        def process(self, message: Any) -> Any:
            return threading.current_thread()

    assert await make_handler(Plain())("message") is not threading.current_thread()


async def test_a_coroutine_hidden_by_a_decorator_is_awaited() -> None:
    """A wrapper that is no coroutine function itself loses nothing."""

    def decorated(function: Any) -> Any:
        return lambda self, message: function(self, message)

    class Hidden(Worker[Any]):
        @decorated
        async def process(self, message: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return message

    assert await make_handler(Hidden())(7) == 7


def test_overriding_process_batch_makes_batches() -> None:
    """It wins over process, which a batch worker often has too."""

    class Batches(Orders):
        async def process_batch(self, messages: Any) -> None:
            """Do nothing."""

    worker = Batches()
    assert takes_batches(worker)
    assert make_handler(worker) == worker.process_batch


def test_without_process_the_nearest_name_is_asked_about() -> None:
    """A misspelt method is the likely cause."""

    class Misspelt(Worker[Any]):
        async def proccess(self, message: Any) -> None:
            """Do nothing."""

    with pytest.raises(
        ConfigError, match=r"neither process\(self, message\).*was proccess meant to be process\?"
    ):
        make_handler(Misspelt())


def test_a_generator_is_refused() -> None:
    """Yielding would silently do nothing."""

    class Yields(Worker[Any]):
        async def process(self, message: Any) -> Any:
            yield message

    with pytest.raises(ConfigError, match=r"Yields.process yields; return"):
        make_handler(Yields())


async def test_offload_works_outside_a_run() -> None:
    """A unit test may call it on a bare instance."""
    assert await Orders().offload(pow, 2, 5) == 32


async def test_a_cancelled_offload_returns_when_its_thread_has_ended() -> None:
    """Nothing can stop a thread, so nobody may believe that it has stopped."""
    entered, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        gate.wait(10)
        ended.set()

    worker = Orders()
    async with anyio.create_task_group() as group:
        group.start_soon(worker.offload, work)
        await eventually(entered.is_set, "the thread runs")
        group.cancel_scope.cancel()
        threading.Timer(0.05, gate.set).start()
    assert ended.is_set()
