"""The fixtures that start brokers: one for the whole run that tests share, and factories for what a test may kill.

Where a broker is missing its tests fail, unless --skip-missing-brokers is given: a suite that skips quietly proves
nothing. A failed test shows the end of the logs of its servers.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Generic, NoReturn, Protocol, TypeVar

import attrs
import pytest

from tests.servers.chromium import Browser
from tests.servers.kafka import KafkaServer, cluster
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.servers.server import MissingBroker, Server

AnyServer = TypeVar("AnyServer", bound=Server)

MARKERS = {
    **dict.fromkeys(("redis_server", "own_redis"), "redis"),
    **dict.fromkeys(("kafka_server", "guide_kafka", "own_kafka", "kafka_cluster"), "kafka"),
    **dict.fromkeys(("rabbitmq_server", "frail_rabbitmq", "own_rabbitmq"), "rabbitmq"),
}
"""Fixture -> the marker that every test taking it gets."""


class OwnRedis(Protocol):
    """What the fixture `own_redis` hands out."""

    def __call__(self, *, durable: bool = False) -> RedisServer:
        """Start a server that ends with the test."""
        ...


@pytest.fixture(scope="session")
def shared_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """The run's Redis; take `redis_server` instead, which is empty."""
    server = RedisServer()
    start(server, request.config)
    yield server
    server.close()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty Redis, shared by the run: not to be paused, stopped or killed."""
    shared_redis.flush()
    return shared_redis


@pytest.fixture
def own_redis(request: pytest.FixtureRequest) -> Iterator[OwnRedis]:
    """A factory of Redis servers that belong to the test, which may kill them, and end with it."""
    factory = Factory(RedisServer, request.config)
    yield factory
    factory.close()


class OwnKafka(Protocol):
    """What the fixture `own_kafka` hands out."""

    def __call__(
        self,
        *,
        security: str = ...,
        properties: Mapping[str, str] = ...,
        users: Mapping[str, str] = ...,
        proxy: int = ...,
    ) -> KafkaServer:
        """Start a server that ends with the test."""
        ...


@pytest.fixture(scope="session")
def kafka_server(request: pytest.FixtureRequest) -> Iterator[KafkaServer]:
    """The run's Kafka, not to be paused, stopped or killed. It is never emptied: topics have names of their own."""
    server = KafkaServer()
    start(server, request.config)
    yield server
    server.close()


@pytest.fixture(scope="session")
def guide_kafka(request: pytest.FixtureRequest) -> Iterator[KafkaServer]:
    """A second Kafka, of which the guide's tests have the topics that the guide names."""
    server = KafkaServer()
    start(server, request.config)
    yield server
    server.close()


@pytest.fixture
def own_kafka(request: pytest.FixtureRequest) -> Iterator[OwnKafka]:
    """A factory of Kafka servers that belong to the test, which may kill them, and end with it."""
    factory = Factory(KafkaServer, request.config)
    yield factory
    factory.close()


@pytest.fixture
def kafka_cluster(request: pytest.FixtureRequest) -> Iterator[Sequence[KafkaServer]]:
    """Three nodes that are one cluster and belong to the test."""
    with ExitStack() as stack:
        try:
            nodes = stack.enter_context(cluster(3))
        except MissingBroker as error:
            give_up(error, request.config)
        yield nodes


class OwnRabbit(Protocol):
    """What the fixture `own_rabbitmq` hands out."""

    def __call__(self, *, config: Mapping[str, str] = ..., management: bool = False) -> RabbitServer:
        """Start a server that ends with the test."""
        ...


@pytest.fixture(scope="session")
def rabbitmq_server(request: pytest.FixtureRequest) -> Iterator[RabbitServer]:
    """The run's RabbitMQ, not to be paused, stopped or killed. It is never emptied: queues have names of their own."""
    server = RabbitServer()
    start(server, request.config)
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_frail_rabbitmq(request: pytest.FixtureRequest) -> Iterator[RabbitServer]:
    """The run's other RabbitMQ, with the HTTP API; take `frail_rabbitmq` instead, which is in good order."""
    server = RabbitServer(management=True, config={"collect_statistics_interval": "500"})
    start(server, request.config)
    yield server
    server.close()


@pytest.fixture
def frail_rabbitmq(shared_frail_rabbitmq: RabbitServer) -> Iterator[RabbitServer]:
    """A RabbitMQ that a test may pause, kill and disturb: it is mended afterwards. Its start takes 6 s, so it is shared."""
    yield shared_frail_rabbitmq
    if shared_frail_rabbitmq.running:
        shared_frail_rabbitmq.resume()
    else:
        shared_frail_rabbitmq.start()


@pytest.fixture
def own_rabbitmq(request: pytest.FixtureRequest) -> Iterator[OwnRabbit]:
    """A factory of RabbitMQ nodes that belong to the test, which may kill them, and end with it."""
    factory = Factory(RabbitServer, request.config)
    yield factory
    factory.close()


@attrs.define(eq=False)
class Factory(Generic[AnyServer]):
    """Starts servers of one kind and ends them all; a pytest fixture hands it out."""

    make: Callable[..., AnyServer]
    config: pytest.Config
    started: list[AnyServer] = attrs.field(factory=list, init=False)

    def __call__(self, **options: object) -> AnyServer:
        """Start one more."""
        server = self.make(**options)
        self.started.append(server)
        start(server, self.config)
        return server

    def close(self) -> None:
        """End them, whatever became of them."""
        for server in self.started:
            server.close()


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The run's browser; whoever opens a page closes the one before it."""
    made = Browser()
    try:
        made.start()
    except MissingBroker as error:
        made.close()
        give_up(error, request.config)
    yield made
    made.close()


def start(server: Server, config: pytest.Config) -> None:
    """Start the server, or fail the test that needs it; skip it where the command line says so."""
    try:
        server.start()
    except MissingBroker as error:
        server.close()
        give_up(error, config)


def give_up(error: MissingBroker, config: pytest.Config) -> NoReturn:
    """Fail the test whose broker is missing; skip it where the command line says so."""
    if config.getoption("skip_missing_brokers"):
        pytest.skip(str(error))
    pytest.fail(f"{error} (--skip-missing-brokers leaves such tests out.)", pytrace=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --skip-missing-brokers."""
    parser.addoption(
        "--skip-missing-brokers",
        action="store_true",
        help="skip the tests whose broker is not on this machine, instead of failing them",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that takes a broker's fixture, so that none is forgotten."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKERS:
                item.add_marker(MARKERS[fixture])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of its servers' logs to a failed test."""
    report = yield
    if report.failed:
        for server in servers_of(item):
            report.sections.append((f"log of {server.program} on port {server.port}", server.log_tail()))
    return report


def servers_of(item: pytest.Item) -> list[Server]:
    """Return the servers that a test's fixtures brought."""
    found: list[Server] = []
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Server):
            found.append(value)
        elif isinstance(value, Factory):
            found.extend(value.started)
        elif isinstance(value, list):
            found.extend(node for node in value if isinstance(node, Server))
    return found
