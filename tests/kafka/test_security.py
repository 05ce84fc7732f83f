"""Logging in and being private: SCRAM, TLS, and what errors and logs tell of it."""

import gc
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pythia_core import Output, SubscriptionLost, WriteError
from pythia_kafka import KafkaAdmin, KafkaProducer
from tests.kafka.driving import Member
from tests.servers.fixtures import OwnKafka
from tests.servers.kafka import KafkaServer

CANARY = "hunter2"
SCRAM: dict[str, Any] = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "SCRAM-SHA-512",
    "username": "alice",
}


@pytest.fixture
def guarded(own_kafka: OwnKafka) -> Iterator[KafkaServer]:
    """A broker that lets in nobody but alice."""
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    yield own_kafka(
        security="SASL_PLAINTEXT",
        users={"alice": CANARY},
        properties={
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


def certify(folder: Path) -> None:
    """Make a broker's certificate and key, and the file with both that Kafka reads."""
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=broker",
            ),
            *(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                folder / "key.pem",
                "-out",
                folder / "ca.pem",
            ),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "store.pem").write_text((folder / "key.pem").read_text() + (folder / "ca.pem").read_text())


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # of the client, about connections whose TLS it refused
async def test_tls_is_verified(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """Authority and host name, always: the same broker by another name, or without its authority, is not spoken to."""
    certify(tmp_path)
    server = own_kafka(
        security="SSL",
        properties={
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(tmp_path / "store.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(tmp_path / "ca.pem"),
            "ssl.endpoint.identification.algorithm": "",  # of the broker itself, as a client of its own
        },
    )
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
