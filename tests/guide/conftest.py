"""What the guide's tests share: a place for notes, topics by the guide's names, and the table at the end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pythia_kafka import KafkaAdmin
from tests.guide.running import Notes
from tests.guide.snippets import FOLDER, SNIPPETS
from tests.kafka.driving import Publisher
from tests.rabbitmq.driving import Client
from tests.servers.kafka import KafkaServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

HERE = Path(__file__).parent
NodeId = str

MakeTopics = Callable[..., Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone: that is what the brokers' clients know."""
    return "asyncio"


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notes:
    """An empty place for notes, which the snippets find by their environment."""
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("NOTES", str(folder))
    monkeypatch.syspath_prepend(FOLDER)
    return Notes(folder)


@pytest.fixture
def kafka(guide_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> KafkaServer:
    """The guide's own Kafka, which the snippets find by their environment."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", guide_kafka.address)
    return guide_kafka


@pytest.fixture
async def make_topics(kafka: KafkaServer) -> AsyncIterator[MakeTopics]:
    """A factory of topics with the guide's names, which go when the test ends."""
    made: list[str] = []
    async with KafkaAdmin(bootstrap_servers=kafka.address) as admin:

        async def make(*topics: str, partitions: int = 1) -> None:
            for topic in topics:
                await admin.create_topic(topic, partitions=partitions)
                made.append(topic)

        yield make
        for topic in made:
            await admin.delete_topic(topic)


@pytest.fixture
async def publisher(kafka: KafkaServer) -> AsyncIterator[Publisher]:
    """The bare client's producer on the guide's Kafka."""
    async with Publisher.connected(kafka.address) as publisher:
        yield publisher


@pytest.fixture
def redis(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """An empty Redis, which the snippets find by their environment."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    return redis_server


@pytest.fixture
async def rabbit(rabbitmq_server: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """The bare client on a virtual host of the guide's own, which the snippets find by their environment."""
    url = rabbitmq_server.add_vhost("guide")
    monkeypatch.setenv("RABBITMQ_URL", url)
    async with Client.connected(url) as client:
        yield client
    rabbitmq_server.delete_vhost("guide")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what became of each snippet, where the guide's tests are all that was asked for."""
    if not all(HERE in [path := Path(arg.split("::")[0]).resolve(), *path.parents] for arg in config.args):
        return
    outcomes: dict[NodeId, str] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            outcomes[report.nodeid.partition("[")[0].removeprefix("tests/guide/")] = outcome
    terminalreporter.section("the guide's snippets")
    for snippet in SNIPPETS:
        outcome = outcomes.get(snippet.test, "not run")
        terminalreporter.write_line(
            f"{outcome:8} {snippet.heading:31} {snippet.broker or '-':12} {snippet.test}"
        )
