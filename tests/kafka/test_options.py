"""Where Kafka is, how to log in, what disagrees: what is understood, what is refused, and that no secret is ever shown."""

import traceback
from typing import Any

import pytest

from pythia_core import ConfigError, Secret, Start
from pythia_kafka import KafkaAdmin, KafkaConsumer, KafkaProducer
from pythia_kafka.options import KafkaOptions
from pythia_kafka.strategies import assignor
from pythia_kafka.subscription import _options

CANARY = "hunter2"
PLAIN: dict[str, Any] = {"sasl_mechanism": "PLAIN", "username": "me", "password": CANARY}


def dead_letters_of(source: KafkaConsumer) -> tuple[KafkaProducer, KafkaConsumer]:
    """Return the natural place for a source's dead letters."""
    place = source.dead_letters()
    assert place is not None
    return place


@pytest.mark.parametrize(
    ("given", "servers"),
    [
        (None, ("localhost:9092",)),
        ("kafka", ("kafka:9092",)),
        ("a:1, b:2", ("a:1", "b:2")),
        (["a:1", "b"], ("a:1", "b:9092")),
        ("[::1]:7000", ("[::1]:7000",)),
    ],
)
def test_servers_are_understood(given: Any, servers: tuple[str, ...]) -> None:
    """As Kafka's own clients write them."""
    assert KafkaOptions(bootstrap_servers=given).login({}).servers == servers


@pytest.mark.parametrize("given", [f"kafka://{CANARY}@a", f"{CANARY}@a:1", "a:b", "a:99999", f"a/{CANARY}"])
def test_bad_servers_are_refused_without_being_shown(given: str) -> None:
    """Nobody knows where a password is in a text that cannot be read."""
    with pytest.raises(ConfigError, match="host:port") as caught:
        KafkaOptions(bootstrap_servers=given).login({})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("server", ["kafka:9092", "10.0.0.1", "localhost.example.com", "localhost,kafka"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_a_secret_is_not_sent_in_clear_text(server: str, mechanism: str) -> None:
    """To another machine that takes TLS, or a word that the network is trusted."""
    secret: dict[str, Any] = {"token": CANARY} if mechanism == "OAUTHBEARER" else PLAIN
    options = {**secret, "sasl_mechanism": mechanism, "bootstrap_servers": server}
    with pytest.raises(ConfigError, match="SASL_SSL") as caught:
        KafkaConsumer("orders", security_protocol="SASL_PLAINTEXT", **options).resolve(Start(worker="w"))
    assert CANARY not in str(caught.value)
    assert KafkaOptions(security_protocol="SASL_SSL", **options).login({}).tls
    assert KafkaOptions(security_protocol="SASL_PLAINTEXT", allow_insecure=True, **options).login({}).sasl


@pytest.mark.parametrize("server", ["localhost", "127.0.0.2:9092", "[::1]:9092"])
def test_a_secret_may_stay_on_this_machine(server: str) -> None:
    """Nobody else reads along there."""
    options = KafkaOptions(bootstrap_servers=server, security_protocol="SASL_PLAINTEXT", **PLAIN)
    assert options.login({}).password is not None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"username": "me"}, "security_protocol is PLAINTEXT"),
        ({"sasl_mechanism": "PLAIN"}, "security_protocol is PLAINTEXT"),
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism must say"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "username": "me"},
            "username and password",
        ),
        ({"security_protocol": "SASL_SSL", **PLAIN, "sasl_mechanism": "OAUTHBEARER"}, "needs token"),
        ({"security_protocol": "SASL_SSL", **PLAIN, "token": "t"}, "nothing else"),
        ({"ca_file": "ca.pem"}, "say SSL"),
        ({"security_protocol": "SASL_PLAINTEXT", **PLAIN, "ca_file": "ca.pem"}, "say SASL_SSL"),
    ],
)
def test_credentials_that_disagree_are_refused(options: dict[str, Any], match: str) -> None:
    """Whoever names a user or an authority believes that it is used."""
    with pytest.raises(ConfigError, match=match):
        KafkaOptions(**options).login({})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "one of topic, topics and pattern"),
        ({"topic": "a", "pattern": "b"}, "one of topic, topics and pattern"),
        ({"pattern": "("}, "no regular expression"),
        ({"topic": "a", "partition_assignment_strategy": "cooperative"}, "range, roundrobin, sticky"),
        ({"topic": "a", "offset_reset": "none"}, "earliest, latest, fail"),
        ({"topic": "a", "isolation_level": "x"}, "read_committed"),
        ({"topic": "a", "session_timeout": 0}, "more than 0"),
        ({"topic": "a", "request_timeout": 64.0}, "at least 65 s"),
        ({"topic": "a", "rebalance_timeout": 600.0, "request_timeout": 70.0}, "at least 605 s"),
    ],
)
def test_settings_that_disagree_are_refused(options: dict[str, Any], match: str) -> None:
    """A request that ends before the rebalance it waits for makes the member join again and again."""
    with pytest.raises(ConfigError, match=match):
        KafkaConsumer(**options)


def test_the_client_gets_what_keeps_the_group_together() -> None:
    """The client's own defaults would end a session after 10 s and a rebalance with it, and begin at the end."""
    options = _options(KafkaConsumer("orders", consumer_group="g", bootstrap_servers="localhost"))
    assert options["session_timeout_ms"] == 45_000
    assert options["heartbeat_interval_ms"] == 3_000
    assert options["rebalance_timeout_ms"] == 60_000
    assert options["request_timeout_ms"] == 70_000
    assert options["isolation_level"] == "read_committed"
    assert (options["max_partition_fetch_bytes"], options["fetch_max_bytes"]) == (1 << 20, 16 << 20)


def test_members_of_one_process_know_nothing_of_each_other() -> None:
    """The client's sticky strategy keeps what a member had in its class, which all members would share."""
    first, second = assignor("sticky"), assignor("sticky")
    first.member_assignment = ["orders-0"]
    assert second.member_assignment is None


def test_a_drain_fits_into_a_rebalance() -> None:
    """Half of it: the rest is for noticing the rebalance and for joining. The start compares it to drain_timeout."""
    assert KafkaConsumer("orders").capabilities.revoke_seconds == 30
    assert KafkaConsumer("orders", rebalance_timeout=20).capabilities.revoke_seconds == 10


def test_what_is_left_out_comes_from_the_environment() -> None:
    """Code wins over the environment, and the environment over the defaults."""
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "there:1,other:2", "CONSUMER_GROUP": "processors"}
    resolved = KafkaConsumer("orders").resolve(Start(worker="order-worker", environ=environ))
    assert resolved.group == "processors"
    assert str(resolved.login({})) == "there:1,other:2"
    assert str(KafkaOptions(bootstrap_servers="here").login(environ)) == "here:9092"
    plain = KafkaConsumer("orders").resolve(Start(worker="order-worker"))
    assert plain.group == "order-worker"
    assert str(plain.login({})) == "localhost:9092"


def test_a_static_member_has_the_number_of_its_process() -> None:
    """Two processes of one name would throw each other out."""
    source = KafkaConsumer("orders", group_instance_id="pod-0")
    assert source.resolve(Start(worker="w", slot=3)).group_instance_id == "pod-0-3"
    assert KafkaConsumer("orders").resolve(Start(worker="w")).group_instance_id is None


def test_dead_letters_have_a_natural_place() -> None:
    """Beside the topic; where several are read, by the name of the group. The reader logs in as the source does."""
    options = {"security_protocol": "SASL_SSL", **PLAIN}
    sink, reader = dead_letters_of(KafkaConsumer("orders", offset_reset="latest", **options))
    assert (sink.topic, reader.topic, sink.create_topic) == ("orders.dlq", "orders.dlq", True)
    assert (sink.username, reader.username, reader.offset_reset) == ("me", "me", "earliest")
    assert reader.consumer_group == "dead-letters"
    assert reader.dead_letters() is None
    several = KafkaConsumer(topics=("a", "b"), consumer_group="g")
    assert dead_letters_of(several)[0].topic == "g.dlq"
    assert dead_letters_of(KafkaConsumer(pattern="a.*", consumer_group="g"))[1].topic == "g.dlq"


@pytest.mark.parametrize(
    ("what", "topic", "comes_back"),
    [
        ({"topic": "orders"}, "orders", True),
        ({"topic": "orders"}, "failed", False),
        ({"topics": ["orders", "failed"]}, "failed", True),
        ({"pattern": "orders.*"}, "orders-failed", True),
        ({"pattern": "orders.*"}, "orders.dlq", False),
        ({"pattern": "orders"}, "orders-failed", False),
    ],
)
def test_dead_letters_that_would_come_back_are_known(
    what: dict[str, Any], topic: str, comes_back: bool
) -> None:
    """A pattern leaves out topics that end like dead letters; of others in its reach a worker's start is told."""
    source = KafkaConsumer(bootstrap_servers="one:9092", **what)
    assert source.reads(KafkaProducer(topic, bootstrap_servers="one")) is comes_back
    assert not source.reads(KafkaProducer(topic, bootstrap_servers="two"))


def test_a_counterpart_is_for_one_topic() -> None:
    """Where several are read, nobody knows which to write to."""
    assert KafkaConsumer(topics=("a",)).counterpart().topic == "a"
    with pytest.raises(ConfigError, match="not one topic"):
        KafkaConsumer(pattern="a.*").counterpart()


def test_no_text_of_ours_shows_a_secret() -> None:
    """Sources end up in logs, reports and tracebacks."""
    options: dict[str, Any] = {"security_protocol": "SASL_SSL", **PLAIN, "bootstrap_servers": "a"}
    source = KafkaConsumer("orders", **options)
    token = KafkaAdmin(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", token=Secret(CANARY))
    shown = [source, source.resolve(Start(worker="w")), source.login(), *dead_letters_of(source)]
    shown += [KafkaProducer("orders", **options), KafkaAdmin(**options), token, token.login()]
    assert CANARY not in "".join(f"{each!r} {each}" for each in shown)


@pytest.mark.parametrize(
    "options", [{"topic": ""}, {"topic": "a", "compression": "br"}, {"topic": "a", "delivery_timeout": 0}]
)
def test_a_producer_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    """When it is made, not when it is used."""
    with pytest.raises(ConfigError):
        KafkaProducer(**options)
