"""Logging in and being private: PLAIN, SCRAM, tokens, TLS, and what errors and logs tell of it."""

import base64
import gc
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.structs import BrokerMetadata

from pythia_core import Message, Output, SubscriptionLost, WriteError
from pythia_kafka import KafkaAdmin, KafkaProducer
from pythia_kafka.browsing import browse
from pythia_kafka.connecting import confine
from tests.kafka.driving import Member, Publisher
from tests.kafka.engines import make_engine, running
from tests.servers.fixtures import OwnKafka
from tests.servers.kafka import KafkaServer
from tests.servers.tls import certify
from tests.waiting import eventually

CANARY = "hunter2"
SCRAM: dict[str, Any] = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "SCRAM-SHA-512",
    "username": "alice",
}


@pytest.fixture
def guarded(own_kafka: OwnKafka) -> Iterator[KafkaServer]:
    """A broker that lets in nobody but alice and bob, and who is in is asked again every second."""
    yield guard(own_kafka)


def guard(own_kafka: OwnKafka, **properties: str) -> KafkaServer:
    """Start one, with more properties."""
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    return own_kafka(
        security="SASL_PLAINTEXT",
        users={"alice": CANARY, "bob": CANARY},
        properties={
            **{name.replace("_", "."): value for name, value in properties.items()},
            "connections.max.reauth.ms": "1000",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": (
                f'{module} username="alice" password="{CANARY}";'
            ),
        },
    )


async def round_trip(**options: Any) -> bytes:
    """Make a topic, write one message and read it as a group."""
    async with KafkaAdmin(**options) as admin:
        await admin.create_topic("orders")
    async with KafkaProducer("orders", **options) as producer:
        assert (await producer.write([Output(None, b"x")])).errors == {}
    async with Member.join("orders", **options) as member:
        (message,) = await member.receive()
        await member.commit(1)
        return message.raw


async def test_a_user_logs_in_and_others_do_not(
    guarded: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    """By SCRAM; a password may come from a function. What errors and logs say of it has no password in it."""
    options = {**SCRAM, "bootstrap_servers": guarded.address}
    caplog.set_level(logging.DEBUG)
    assert await round_trip(**options, password=lambda: CANARY) == b"x"
    for wrong in ({**options, "password": "wrong-" + CANARY}, {"bootstrap_servers": guarded.address}):
        with pytest.raises(WriteError, match=guarded.address) as caught:
            await KafkaProducer("orders", **wrong).open()
        assert CANARY not in str(caught.value)
        with pytest.raises(SubscriptionLost) as lost:
            async with Member.join("orders", **wrong):
                pass
        assert CANARY not in str(lost.value)
    assert CANARY not in caplog.text


async def test_a_secret_in_clear_text_goes_to_nobody_that_the_cluster_tells_of(
    own_kafka: OwnKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of brokers behind a tunnel that ends on this machine: not even a connection is made, unless that is allowed."""
    hosts: set[str] = set()

    async def connect(host: str, *arguments: Any, **options: Any) -> Any:
        hosts.add(host)
        return await create_conn(host, *arguments, **options)

    monkeypatch.setattr("aiokafka.client.create_conn", connect)
    monkeypatch.setattr("pythia_kafka.writing.START_SECONDS", 2.0)
    server = guard(own_kafka, advertised_listeners="CLIENTS://kafka-1.invalid:9092")
    options: dict[str, Any] = {**SCRAM, "password": CANARY, "bootstrap_servers": server.address}
    told = "kafka-1.invalid:9092, to whom the secret would be sent in clear text: use SASL_SSL"
    with pytest.raises(WriteError, match=told):
        await KafkaProducer("orders", **options).open()
    with pytest.raises(SubscriptionLost, match=told):
        async with Member.join("orders", **options):
            pass
    async with KafkaAdmin(**options) as admin:
        with pytest.raises(KafkaError, match=told):
            await admin.get_consumer_lag("workers", "orders")
        with pytest.raises(KafkaError, match=told):
            await admin._opened()._connected()
    with pytest.raises(KafkaError, match=told):
        await anext(browse(admin.login(), "read_committed", {}))
    assert hosts == {"127.0.0.1"}
    with pytest.raises(WriteError):
        await KafkaProducer("orders", **options, allow_insecure=True).open()
    assert hosts == {"127.0.0.1", "kafka-1.invalid"}


async def test_a_broker_that_is_told_of_later_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters grow; the client then treats it as one that cannot be reached."""
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:9092")
    login = KafkaAdmin(**SCRAM, password=CANARY).login({})
    confine(client, login)
    told = BrokerMetadata(2, "kafka-2", 9092, None)
    monkeypatch.setattr(client.cluster, "broker_metadata", {2: told}.get)
    monkeypatch.setattr("aiokafka.client.create_conn", None)
    assert not await client.ready(2)


async def test_credentials_that_are_revoked_and_restored(
    guarded: KafkaServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker asks again and refuses: not ready, in words without a secret, and on by itself when they hold again."""
    caplog.set_level(logging.DEBUG)
    login = tmp_path / "alice.properties"
    jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    login.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"
        f'sasl.jaas.config={jaas} username="alice" password="{CANARY}";\n'
    )
    change = partial(
        guarded.tool,
        "kafka.admin.ConfigCommand",
        "--command-config",
        str(login),
        "--alter",
        *("--entity-type", "users", "--entity-name", "bob"),
    )
    bob = {**SCRAM, "username": "bob", "password": CANARY}
    seen: Counter[int] = Counter()

    async def count(message: Message[Any]) -> None:
        seen[message.body["n"]] += 1

    async with KafkaAdmin(bootstrap_servers=guarded.address, **bob) as admin:
        await admin.create_topic("orders")
    engine = make_engine(guarded.address, "orders", count, **bob)
    async with running(engine):
        await eventually(lambda: engine.health().ready, "it was ready")
        await anyio.to_thread.run_sync(change, "--delete-config", "SCRAM-SHA-512")
        await eventually(lambda: not engine.health().ready, "it was put out", seconds=30)
        await eventually(
            lambda: "invalid credentials" in str(engine.health().reasons), "it said why", seconds=30
        )
        said = str(engine.health().reasons)
        await anyio.to_thread.run_sync(change, "--add-config", f"SCRAM-SHA-512=[password={CANARY}]")
        await publish_as_alice(guarded, 10)
        await eventually(lambda: len(seen) == 10, "all were seen", seconds=30)
    assert CANARY not in said + caplog.text


async def publish_as_alice(server: KafkaServer, count: int) -> None:
    """Write so many messages."""
    alice = {"sasl_plain_username": "alice", "sasl_plain_password": CANARY}
    options = {"security_protocol": SCRAM["security_protocol"], "sasl_mechanism": SCRAM["sasl_mechanism"]}
    async with Publisher.connected(server.address, **options, **alice) as publisher:
        await publisher.publish("orders", count)


def broker_tls(folder: Path) -> dict[str, str]:
    """Return how a broker is told of them."""
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "store.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "ssl.endpoint.identification.algorithm": "",  # of the broker itself, as a client of its own
    }


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # of the client, about connections whose TLS it refused
async def test_tls_is_verified(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """Authority and host name, always: the same broker by another name, or without its authority, is not spoken to."""
    certify(tmp_path)
    server = own_kafka(security="SSL", properties=broker_tls(tmp_path))
    options: dict[str, Any] = {"security_protocol": "SSL", "ca_file": str(tmp_path / "ca.pem")}
    assert await round_trip(**options, bootstrap_servers=server.address) == b"x"
    refused = [
        {"security_protocol": "SSL", "bootstrap_servers": server.address},
        {**options, "bootstrap_servers": f"localhost:{server.port}"},
    ]
    for wrong in refused:
        with pytest.raises(WriteError, match="CERTIFICATE_VERIFY_FAILED"):
            await KafkaProducer("orders", **wrong).open()
    gc.collect()


def token(seconds: float) -> str:
    """Return an unsecured token of alice's, as Kafka's own checker for tests takes them, that is good for so long."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    now = time.time()
    claims = {"sub": "alice", "iat": now - 60, "exp": now + seconds, "canary": CANARY}
    return f"{part({'alg': 'none'})}.{part(claims)}."


async def test_every_mechanism_logs_in_through_tls(
    own_kafka: OwnKafka,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PLAIN, SCRAM and tokens, which are asked for anew; a wrong one is told as such, and neither is ever logged."""
    certify(tmp_path)
    modules = "org.apache.kafka.common.security"
    server = own_kafka(
        security="SASL_SSL",
        users={"alice": CANARY},
        properties={
            **broker_tls(tmp_path),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": (
                f'{modules}.plain.PlainLoginModule required username="alice" password="{CANARY}" '
                f'user_alice="{CANARY}";'
            ),
            "listener.name.clients.scram-sha-512.sasl.jaas.config": (
                f"{modules}.scram.ScramLoginModule required;"
            ),
            "listener.name.clients.oauthbearer.sasl.jaas.config": (
                f'{modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
            ),
        },
    )
    caplog.set_level(logging.DEBUG)
    options: dict[str, Any] = {
        "bootstrap_servers": server.address,
        "security_protocol": "SASL_SSL",
        "ca_file": str(tmp_path / "ca.pem"),
    }
    tokens: list[str] = []

    def fresh() -> str:
        tokens.append(token(300))
        return tokens[-1]

    user: dict[str, Any] = {"username": "alice", "password": CANARY}
    for mechanism, secret in (("PLAIN", user), ("SCRAM-SHA-512", user), ("OAUTHBEARER", {"token": fresh})):
        assert await round_trip(**options, sasl_mechanism=mechanism, **secret) == b"x"
    assert len(tokens) >= 3, "every connection asks for one"
    expired = token(-30)
    monkeypatch.setattr("pythia_kafka.writing.START_SECONDS", 2.0)
    refused: list[tuple[Any, dict[str, Any], str]] = [
        ("PLAIN", {**user, "password": "no"}, "no broker can be reached .*Authentication failed"),
        ("OAUTHBEARER", {"token": expired}, "a token is refused"),
    ]
    for mechanism, wrong, told in refused:
        with pytest.raises(WriteError, match=told) as caught:
            await KafkaProducer("orders", **options, sasl_mechanism=mechanism, **wrong).open()
        assert expired not in str(caught.value)
    assert not [secret for secret in (CANARY, expired, *tokens) if secret in caplog.text]
    gc.collect()
