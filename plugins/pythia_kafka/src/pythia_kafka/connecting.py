"""What every client needs to connect and to end: TLS, secrets kept to where they may go, a close that always returns."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import anyio.to_thread
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from pythia_core import Secret, is_loopback
from pythia_kafka.options import Login

log = logging.getLogger("pythia.kafka")


class Tokens(AbstractTokenProvider):
    """Asks a secret for a token at every connect, in a thread: it may have to be fetched."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]  # declared to return None
        return await anyio.to_thread.run_sync(self._secret.reveal)


def client_options(login: Login) -> dict[str, Any]:
    """Return the arguments that consumer, producer and admin clients share."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(login.servers),
        "security_protocol": login.protocol,
        "client_id": "pythia",
    }
    if login.tls:
        options["ssl_context"] = _tls(login)
    if login.sasl:
        options["sasl_mechanism"] = login.mechanism
        if login.password is not None:
            options["sasl_plain_username"] = login.username
            options["sasl_plain_password"] = login.password.reveal()
        if login.token is not None:
            options["sasl_oauth_token_provider"] = Tokens(login.token)
    return options


def _tls(login: Login) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=login.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if login.cert_file:
        context.load_cert_chain(login.cert_file, login.key_file)
    return context


def confine(client: Any, login: Login) -> None:
    """Let a client speak to nobody on another machine, where the login's secret would go there in clear text.

    A cluster tells its clients where its brokers are, and each of them is sent the secret. So one behind a tunnel that
    ends on this machine would have it sent past the tunnel.

    Args:
        client: the :class:`aiokafka.client.AIOKafkaClient` of a consumer, a producer or an admin, not started.
        login: how it logs in.
    """
    if not login.confined:
        return
    bootstrap, connect = client.bootstrap, client._get_conn

    async def bootstrap_here() -> None:
        await bootstrap()
        if away := [broker for broker in client.cluster.brokers() if not is_loopback(broker.host)]:
            raise KafkaConnectionError(_leak(login, away))

    async def connect_here(node: Any, **options: Any) -> Any:
        broker = client.cluster.broker_metadata(node)
        if broker is not None and not is_loopback(broker.host):  # the cluster has changed since the start
            log.error("not connected: %s", _leak(login, [broker]))
            return None
        return await connect(node, **options)

    client.bootstrap, client._get_conn = bootstrap_here, connect_here


def _leak(login: Login, brokers: Iterable[Any]) -> str:
    names = ", ".join(sorted(f"{broker.host}:{broker.port}" for broker in brokers))
    return (
        f"Kafka at {login} tells of brokers at {names}, to whom the secret would be sent in clear text: use SASL_SSL, or "
        "say allow_insecure=True if the network between is trusted"
    )


async def close(*steps: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Take each step of an end, for so many seconds at the most, also where we are cancelled ourselves.

    In a task of its own, since the client cancels tasks of its own and lets their CancelledError out to whoever closes it.
    """

    async def take(step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except Exception as error:
            log.debug("closing a client: %s: %s", type(error).__name__, error)

    for step in steps:
        with anyio.move_on_after(seconds, shield=True):
            async with anyio.create_task_group() as group:
                group.start_soon(take, step)
