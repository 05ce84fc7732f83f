"""URLs and parts, and what is refused: secrets in clear text, unbounded prefetch, settings that disagree."""

from pathlib import Path
from typing import Any

import pytest

from pythia_core import ConfigError, Message, Start, Worker, WorkerConfig
from pythia_core.checking import Plan, check_target
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime
from pythia_rabbitmq import RabbitMQAdmin, RabbitMQConsumer, RabbitMQProducer

CANARY = "canary-5f2c"


def test_a_url_is_read() -> None:
    """Several hosts, a virtual host, and characters written as %XX."""
    source = RabbitMQConsumer("tasks", url="amqps://me:p%40ss@one,two:5673/a%2Fb")
    address = source.address({})
    assert address.hosts == (("one", 5671), ("two", 5673))
    assert (address.tls, address.virtual_host, address.username) == (True, "a/b", "me")
    assert address.password.reveal() == "p@ss"


def test_parts_win_over_the_url() -> None:
    """And the environment fills in what is left out."""
    options: Any = {"host": "127.0.0.1:5001,localhost", "virtual_host": "v", "username": "u", "password": "p"}
    address = RabbitMQConsumer("tasks", **options).address({"RABBITMQ_URL": "amqp://x:y@127.0.0.1:1/w"})
    assert address.hosts == (("127.0.0.1", 5001), ("localhost", 5672))
    assert (address.virtual_host, address.username, address.password.reveal()) == ("v", "u", "p")
    address = RabbitMQConsumer("tasks").address({"RABBITMQ_URL": "amqp://x:y@127.0.0.1:1/w"})
    assert (address.hosts, address.virtual_host) == ((("127.0.0.1", 1),), "w")
    assert RabbitMQConsumer("tasks").address({}).hosts == (("localhost", 5672),)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"amqp://u:{CANARY}@rabbit.example.com", "clear text"),
        (f"amqps://u:{CANARY}@rabbit.example.com/?no_verify_ssl=1", "always verified"),
        (f"amqp://u:{CANARY}@localhost/?heartbeat=0", "heartbeat"),
        (f"amqp://u:{CANARY}@localhost:port", "cannot be read"),
        (f"http://u:{CANARY}@localhost", "starts with"),
    ],
)
def test_what_is_refused_is_not_repeated(url: str, why: str) -> None:
    """The error says what to do, and has no secret in it."""
    for kind in (
        RabbitMQAdmin,
        lambda **o: RabbitMQProducer(queue="q", **o),
        lambda **o: RabbitMQConsumer("q", **o),
    ):
        with pytest.raises(ConfigError, match=why) as caught:
            kind(url=url).address({})
        assert CANARY not in str(caught.value)
        assert CANARY not in repr(kind(url=url))


def test_clear_text_is_sent_where_that_is_wanted_or_harmless() -> None:
    """On this machine, or by leave; and the HTTP API is looked at alike."""
    RabbitMQAdmin(url="amqp://u:p@rabbit", allow_insecure=True).address({})
    RabbitMQAdmin(url="amqp://u:p@127.0.0.1", management_url="http://localhost:15672").address({})
    with pytest.raises(ConfigError, match="clear text"):
        RabbitMQAdmin(url="amqps://u:p@rabbit", management_url="http://rabbit:15672").address({})
    with pytest.raises(ConfigError, match="without user"):
        RabbitMQAdmin(management_url="http://u:p@localhost:15672").address({})


def test_the_prefetch_comes_from_the_concurrency() -> None:
    """R14: it is never unlimited."""
    for concurrency, prefetch in ((1, 100), (20, 200), (50_000, 65_535)):
        source = RabbitMQConsumer("tasks").resolve(Start(worker="w", concurrency=concurrency))
        assert source.prefetch_count == prefetch
        assert source.capabilities.window == prefetch
    assert RabbitMQConsumer("tasks", prefetch_count=10).resolve(Start(worker="w")).prefetch_count == 10


@pytest.mark.parametrize(
    "options",
    [
        {"prefetch_count": 0},
        {"prefetch_count": 65_536},
        {"queue_type": "stream"},
        {"when_gone": "shrug"},
        {"durable": False},
        {"queue_type": "classic", "delivery_limit": 3},
        {"dead_letter_routing_key": "x"},
    ],
)
def test_settings_that_disagree(options: Any) -> None:
    """Are refused when they are written down."""
    with pytest.raises(ConfigError):
        RabbitMQConsumer("tasks", **options)


def test_what_a_queue_is_told() -> None:
    """R18, R19, R20: kind and limit explicitly, and a dead-letter exchange of its own without loss."""
    assert RabbitMQConsumer("t").queue_arguments == {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    given = RabbitMQConsumer("t", dead_letter_exchange="", dead_letter_routing_key="d", delivery_limit=5)
    assert given.queue_arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 5,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "d",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert RabbitMQConsumer("t", queue_type="classic", arguments={"x-max-priority": 5}).queue_arguments == {
        "x-queue-type": "classic",
        "x-max-priority": 5,
    }


def test_dead_letters_have_a_place_and_no_further_one() -> None:
    """The queue `<queue>.dlq`, on the same server."""
    source = RabbitMQConsumer("tasks", url="amqp://u:p@127.0.0.1", arguments={"x-max-length": 5})
    place = source.dead_letters()
    assert place is not None
    sink, reader = place
    assert (sink.queue, reader.queue, reader.url) == ("tasks.dlq", "tasks.dlq", source.url)
    assert "x-max-length" not in reader.queue_arguments
    assert reader.dead_letters() is None


class Slow(Worker[Any]):
    """A worker whose handlers may run for a minute."""

    source = RabbitMQConsumer("tasks")
    config = WorkerConfig(handler_timeout=60, drain_timeout=90)

    async def process(self, message: Message[Any]) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("options", "patience"),
    [
        ({}, 1800),
        ({"consumer_timeout": 60}, 60),
        ({"consumer_timeout": None}, None),
        ({"arguments": {"x-consumer-timeout": 50_000}}, 50),
        ({"consumer_timeout": 60, "auto_ack": True}, None),
    ],
)
def test_a_handler_timeout_is_below_the_servers_patience(options: Any, patience: float | None) -> None:
    """R17: or the worker does not start, since every handler that takes longer is repeated elsewhere."""
    worker = Slow()
    worker.source = RabbitMQConsumer("tasks", **options)
    assert worker.source.capabilities.settle_seconds == patience
    if patience is not None and patience <= 60:
        with pytest.raises(ConfigError, match=f"handler_timeout is 60 s .*not settled within {patience} s"):
            Runtime(worker, environ={}, registry=Registry())
    else:
        Runtime(worker, environ={}, registry=Registry())


def test_check_says_how_long_a_handler_may_take(tmp_path: Path) -> None:
    """R17: as a note where nothing bounds it, as an error where it is too long."""
    code = """
from pythia import Worker
from pythia.config import WorkerConfig
from pythia.brokers.rabbitmq import RabbitMQConsumer

class Slow(Worker):
    source = RabbitMQConsumer("tasks")
    config = WorkerConfig(handler_timeout=None, drain_timeout=9000)

    async def process(self, message):
        pass
"""
    for timeout, level, told in [
        ("None", "note", "tasks takes back what is not settled within 1800 s"),
        ("3600", "error", "handler_timeout is 3600 s"),
        ("60", "note", ""),
    ]:
        file = (
            tmp_path / f"slow_{timeout}.py"
        )  # one each: a cached one of that second and size would pass for it
        file.write_text(code.replace("None", timeout))
        findings = list(check_target(str(file), Plan(environ={}, limit=None)))
        found = [finding.text for finding in findings if "settled within" in finding.text]
        assert len(found) == (told != "")
        assert all(told in text for text in found)
        assert level in {finding.level for finding in findings}


def test_check_says_what_a_small_prefetch_bounds(tmp_path: Path) -> None:
    """As the guide's example has it: ten at once, though twenty could run."""
    code = """
from pythia import Worker
from pythia.brokers.rabbitmq import RabbitMQConsumer

class Small(Worker):
    source = RabbitMQConsumer("tasks"OPTIONS)

    async def process(self, message):
        pass
"""
    for number, (options, told) in enumerate([(", prefetch_count=10", 1), ("", 0)]):
        file = tmp_path / f"small_{number}.py"
        file.write_text(code.replace("OPTIONS", options))
        texts = [finding.text for finding in check_target(str(file), Plan(environ={}, limit=None))]
        assert (
            texts.count("tasks lets no more than 10 out at a time, fewer than max_concurrent_tasks=20")
            == told
        )


def test_a_queue_keeps_no_positions() -> None:
    """And what to do instead is told, before anything is connected to."""
    with pytest.raises(ConfigError, match=r"'tasks'.*pythia dead-letters replay"):
        RabbitMQConsumer("tasks").positions()
