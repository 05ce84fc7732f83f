"""TLS on a real server: its authority and name are verified, always, and a refusal shows no password."""

import logging
from pathlib import Path

import anyio.to_thread
import pytest

from pythia_core import SubscriptionLost
from tests.rabbitmq.driving import Client, Member
from tests.servers.fixtures import OwnRabbit
from tests.servers.server import free_port
from tests.servers.tls import certify

CANARY = "canary-7b1e"


async def test_tls_is_verified(
    own_rabbitmq: OwnRabbit, queue: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The right authority lets a message through; another one, none, or another name is refused before any login."""
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir()
        certify(folder)
    port = free_port()
    config = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": str(own / "ca.pem"),
        "ssl_options.certfile": str(own / "ca.pem"),
        "ssl_options.keyfile": str(own / "key.pem"),
    }
    server = await anyio.to_thread.run_sync(lambda: own_rabbitmq(config=config))
    authority = str(own / "ca.pem")
    caplog.set_level(logging.DEBUG)
    async with (
        Client.connected(server.url) as client,
        Member.join(queue, url=f"amqps://guest:guest@127.0.0.1:{port}/", ca_file=authority) as member,
    ):
        await client.publish(queue, 1)
        (message,) = await member.receive()
        await member.settle(message.position)
    refused = [("127.0.0.1", str(other / "ca.pem")), ("127.0.0.1", None), ("localhost", authority)]
    for host, trusted in refused:
        with pytest.raises(SubscriptionLost, match="CERTIFICATE_VERIFY_FAILED") as caught:
            async with Member.join(queue, url=f"amqps://guest:{CANARY}@{host}:{port}/", ca_file=trusted):
                pass
        assert CANARY not in str(caught.value)
    assert CANARY not in caplog.text
