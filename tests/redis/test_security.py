"""Logging in and being private: ACL users, TLS, rotation, and what errors and logs tell of it."""

import logging
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis

from pythia_core import Secret, SubscriptionLost, WriteError
from pythia_redis import RedisIdempotencyStore, RedisStreamsProducer, RedisTokenBucket
from pythia_redis.connection import ConnectionLost
from tests.redis.driving import Member, Members, add, consumers, pending
from tests.servers.redis import RedisServer
from tests.servers.server import ServerFailed, free_port

CANARY = "hunter2"

# What they need, as the plugin's README shows it.
CONSUMER = (
    "+xgroup|create +xgroup|delconsumer +xreadgroup +xautoclaim +xclaim +xack +xpending +xinfo|consumers "
    "+time +evalsha +eval +client|setname +client|id +client|unblock +select"
)
SHARER = "+get +set +del +pttl +time +evalsha +eval +client|setname +select"
HOLDER, MOVER = "+zadd +time +eval", "+zrange +zrangebyscore +zrem +xadd"
PRODUCER = "+xadd +type +ping +multi +exec +client|setname +select"


@pytest.fixture
def add_user(client: redis.Redis) -> Iterator[Callable[..., None]]:
    """Add an ACL user, for this test alone."""
    users: list[str] = []

    def add_user(name: str, commands: str, *, password: str = CANARY, keys: str = "~events*") -> None:
        users.append(name)
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", keys, *commands.split())  # type: ignore[no-untyped-call]

    yield add_user
    client.acl_deluser(*users)


def with_user(server: RedisServer, name: str, password: str = CANARY) -> str:
    """Return the server's URL with credentials."""
    return server.url.replace("redis://", f"redis://{name}:{password}@")


def test_the_readme_shows_the_permissions() -> None:
    """Those that the next test finds to be enough."""
    readme = Path(__file__).parents[2] / "plugins/pythia_redis/README.md"
    shown = " ".join(readme.read_text().split())
    assert f"~events* {CONSUMER}" in shown
    assert f"~events* {PRODUCER}" in shown
    assert f"~pythia:rate:* ~pythia:done:* {SHARER}" in shown
    assert f"`~{{events}}:held {HOLDER}`" in shown
    assert f"`~{{events}}:held {MOVER}`" in shown


async def test_few_permissions_are_enough(
    client: redis.Redis, redis_server: RedisServer, add_user: Callable[..., None]
) -> None:
    """The least a consumer and a producer need, for one stream and its dead letters."""
    add_user("reader", CONSUMER)
    add_user("writer", PRODUCER)
    async with RedisStreamsProducer("events", url=with_user(redis_server, "writer")) as producer:
        await producer.check()
        await producer.send(b"1", key="k")
        await producer.send(b"2", key="k")
    async with Member.join("events", url=with_user(redis_server, "reader")) as member:
        first, second = await member.receive(2)
        assert await member.settle(released=[first], renewed=[second]) == []
        (first,) = await member.receive()
        assert await member.settle(done=[first, second]) == []
        await member.subscription.stop_fetching()
    assert pending(client) == {}
    assert consumers(client) == {}
    add_user("sharer", f"~pythia:done:* {SHARER}", keys="~pythia:rate:*")
    url = with_user(redis_server, "sharer")
    async with RedisTokenBucket("api", url=url) as bucket, RedisIdempotencyStore("orders", url=url) as store:
        await bucket.take(1, 1, 1)
        await store.begin("7", "me", 30)
        await store.forget("7", "me")
        await store.finish("7", 30)
        await store.begin("7", "me", 30)
    log: Any = client.acl_log()
    denied = {entry["object"] for entry in log if entry["reason"] == "command"}
    assert denied <= {"config|get", "config"}  # the second is how Redis 6.2 says it


async def test_few_permissions_more_are_enough_for_delays(
    client: redis.Redis,
    redis_server: RedisServer,
    add_user: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the README names besides; without them a reader reads on, and says once what it may not."""
    add_user("reader", f"~{{events}}:held {CONSUMER} {MOVER}")
    add_user("old-reader", CONSUMER)
    add_user("writer", f"~{{events}}:held {PRODUCER} {HOLDER}")
    async with RedisStreamsProducer("events", url=with_user(redis_server, "writer")) as producer:
        await producer.send(b"1", key="k", delay=0.001)
        await producer.send(b"2")
    async with Member.join("events", url=with_user(redis_server, "old-reader")) as member:
        (message,) = await member.receive(1)
        assert message.raw == b"2" and await member.settle(done=[message]) == []
    assert "cannot be moved into 'events'" in caplog.text
    async with Member.join("events", url=with_user(redis_server, "reader")) as member:
        (message,) = await member.receive(1)
        assert message.raw == b"1"


async def test_a_wrong_password_is_a_clear_error(
    redis_server: RedisServer, add_user: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """It says what is wrong and where, and shows no password; a right one later helps, so it is no ConfigError."""
    caplog.set_level(logging.DEBUG)
    add_user("reader", CONSUMER, password="right")
    with pytest.raises(ConnectionLost, match="invalid username-password pair") as caught:
        async with Member.join("events", url=with_user(redis_server, "reader")):
            pass
    assert CANARY not in f"{caught.value!r}{caught.value.__cause__!r}{caplog.text}"


async def test_a_missing_permission_is_a_clear_error(
    redis_server: RedisServer, add_user: Callable[..., None]
) -> None:
    """It names what is missing."""
    add_user("reader", CONSUMER.replace("+xreadgroup ", ""))
    async with Member.join("events", url=with_user(redis_server, "reader")) as member:
        with pytest.raises(SubscriptionLost, match="xreadgroup"):
            await member.fetch()
    add_user("writer", PRODUCER.replace("+xadd ", ""))
    async with RedisStreamsProducer("events", url=with_user(redis_server, "writer")) as producer:
        with pytest.raises(WriteError, match="xadd"):
            await producer.check()
        with pytest.raises(WriteError, match="xadd"):
            await producer.send(b"x")


async def test_a_rotated_password_is_asked_for_at_every_connect(
    client: redis.Redis, redis_server: RedisServer, add_user: Callable[..., None]
) -> None:
    """A secret that is a function or a file may change under a running worker."""
    password = "old"
    add_user("reader", CONSUMER, password="old")
    url = redis_server.url.replace("redis://", "redis://reader@")
    async with Member.join("events", url=url, password=Secret(lambda: password)) as member:
        add(client)
        messages = await member.receive()
        client.execute_command("ACL", "SETUSER", "reader", "resetpass", ">new")  # type: ignore[no-untyped-call]
        client.client_kill_filter(_type="normal", skipme=True)
        password = "new"
        add(client)
        await member.receive()
        assert await member.settle(done=messages) == []


async def test_no_log_shows_a_password(
    redis_server: RedisServer,
    add_user: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    client: redis.Redis,
) -> None:
    """Not even at the finest level, through an outage."""
    caplog.set_level(logging.DEBUG)
    add_user("reader", CONSUMER)
    async with Member.join("events", url=with_user(redis_server, "reader")) as member:
        client.client_kill_filter(_type="normal", skipme=True)
        await member.fetch()
        client.flushall()
        await member.fetch()
    assert caplog.records
    assert CANARY not in caplog.text


# -- TLS ---------------------------------------------------------------------------------------------------------


@attrs.define(eq=False, kw_only=True)
class TlsServer(RedisServer):
    """A Redis that speaks TLS on a second port, with a certificate for localhost from an authority of its own."""

    tls_port: int = attrs.field(factory=free_port)

    def certify(self) -> None:
        """Make authority and certificate."""
        openssl(
            self.folder,
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca "
            "-addext keyUsage=critical,keyCertSign,cRLSign",  # Python 3.13 insists on it
        )
        openssl(
            self.folder, "req -newkey rsa:2048 -nodes -keyout redis.key -out redis.csr -subj /CN=localhost"
        )
        (self.folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
        openssl(
            self.folder,
            "x509 -req -in redis.csr -CA ca.crt -CAkey ca.key -out redis.crt -days 2 -extfile names",
        )

    def command(self) -> Sequence[str | Path]:
        """Add what TLS needs; clients need no certificate."""
        tls = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
        files = [
            "--tls-cert-file",
            "redis.crt",
            "--tls-key-file",
            "redis.key",
            "--tls-ca-cert-file",
            "ca.crt",
        ]
        return [*super().command(), *tls, *files]


def openssl(folder: Path, arguments: str) -> None:
    """Run openssl in a folder."""
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls_server(request: pytest.FixtureRequest) -> Iterator[TlsServer]:
    """A server that speaks TLS."""
    server = TlsServer()
    server.certify()
    try:
        server.start()
    except ServerFailed as error:
        server.close()
        if "PYTHIA_REDIS_SERVER" in os.environ and "tls" in str(error).lower():
            pytest.skip(f"{server.program} was built without TLS")
        raise
    yield server
    server.close()


async def test_tls_reads_settles_and_writes(tls_server: TlsServer) -> None:
    """With a password, which may travel there."""
    url, ca_file = f"rediss://localhost:{tls_server.tls_port}/0", str(tls_server.folder / "ca.crt")
    with redis.Redis(port=tls_server.port) as client:
        client.config_set("requirepass", CANARY)
        client.auth(CANARY)
        try:
            async with RedisStreamsProducer("events", url=url, ca_file=ca_file, password=CANARY) as producer:
                await producer.send(b"x")
            async with Member.join("events", url=url, ca_file=ca_file, password=CANARY) as member:
                assert await member.settle(done=await member.receive()) == []
        finally:
            client.config_set("requirepass", "")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_that_does_not_fit_is_refused(
    tls_server: TlsServer, host: str, members: Members
) -> None:
    """From an authority that nobody named, or for another name: a clear error and no way round."""
    ca_file = str(tls_server.folder / "ca.crt") if host == "127.0.0.1" else None
    with pytest.raises(ConnectionLost, match="certificate"):
        await members(url=f"rediss://{host}:{tls_server.tls_port}", ca_file=ca_file)


@attrs.define(eq=False, kw_only=True)
class UnixServer(RedisServer):
    """A Redis that also listens on a Unix socket."""

    def command(self) -> Sequence[str | Path]:
        """Add the socket."""
        return [*super().command(), "--unixsocket", self.folder / "socket"]


async def test_a_unix_socket_will_do() -> None:
    """It needs no network, and a password is safe there."""
    with UnixServer() as server, redis.Redis(port=server.port, decode_responses=True) as client:
        add(client)
        async with Member.join("events", url=f"unix://{server.folder}/socket") as member:
            assert await member.settle(done=await member.receive()) == []
