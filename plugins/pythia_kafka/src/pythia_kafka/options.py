"""Where Kafka is and how to log in: the fields that consumer, producer and admin share, and the rules for them.

They stand apart so that there is one place that reads addresses, and one that refuses to send a secret in clear text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import attrs

from pythia_core import ConfigError, Secret, is_loopback

DEFAULT_SERVERS: Final = "localhost:9092"

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

_SERVER: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(:(?P<port>\d{1,5}))?")


@attrs.frozen(kw_only=True)
class Login:
    """How a client reaches a cluster and who it says it is. Its text has no secret."""

    servers: tuple[str, ...]
    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    confined: bool = False  # to this machine, since whoever is elsewhere would get the secret in clear text

    def __str__(self) -> str:
        return ",".join(self.servers)

    @property
    def tls(self) -> bool:
        """Whether what is sent is encrypted."""
        return self.protocol.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """Whether a secret is sent."""
        return self.protocol.startswith("SASL")


def _join(servers: str | Iterable[str] | None) -> str | None:
    return servers if servers is None or isinstance(servers, str) else ",".join(servers)


@attrs.define(kw_only=True, slots=False)
class KafkaOptions:
    """How to reach Kafka.

    Args:
        bootstrap_servers: ``host:port``, several with commas between; any of the cluster's brokers will do. The
            environment's KAFKA_BOOTSTRAP_SERVERS if left out, else ``localhost:9092``.
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, where the protocol is one with SASL.
        username: for PLAIN and SCRAM.
        password: the same. A function is asked whenever a client is made, so that it can be rotated.
        token: for OAUTHBEARER; usually a function that returns a fresh one, which runs in a thread.
        ca_file: PEM file with the authorities that may sign the brokers' certificates; the system's if left out.
        cert_file: PEM file with our own certificate, where the brokers ask for one.
        key_file: PEM file with its key.
        allow_insecure: send a secret in clear text to another machine: one of ``bootstrap_servers``, or one that the
            cluster tells us of.
    """

    bootstrap_servers: str | None = attrs.field(default=None, converter=_join)
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism | None = None
    username: str | None = None
    password: Secret | None = attrs.field(
        default=None, converter=attrs.converters.optional(Secret), hash=False
    )
    token: Secret | None = attrs.field(default=None, converter=attrs.converters.optional(Secret), hash=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    allow_insecure: bool = False

    def login(self, environ: Mapping[str, str] = os.environ) -> Login:
        """Return what these options say.

        Raises:
            ConfigError: if they disagree, or a secret would travel in clear text.
        """
        given = self.bootstrap_servers or environ.get("KAFKA_BOOTSTRAP_SERVERS") or DEFAULT_SERVERS
        login = Login(
            servers=tuple(_server(part) for part in given.split(",") if part.strip()),
            protocol=self.security_protocol,
            mechanism=self.sasl_mechanism,
            username=self.username,
            password=self.password,
            token=self.token,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            confined=self.security_protocol == "SASL_PLAINTEXT" and not self.allow_insecure,
        )
        _check_sasl(login)
        _check_privacy(login, self.allow_insecure)
        return login


def _server(text: str) -> str:
    match = _SERVER.fullmatch(text.strip())
    if match is None or int(match["port"] or 9092) > 65_535:
        # Not repeated: of a text that cannot be read nobody knows whether there is a password in it.
        raise ConfigError(
            "bootstrap_servers cannot be read: it is host:port, several with commas between, without a scheme, "
            "a user or a path"
        )
    return f"{match['host']}:{match['port'] or 9092}"


def _check_sasl(login: Login) -> None:
    secrets = {"username": login.username, "password": login.password, "token": login.token}
    given = [name for name, value in secrets.items() if value is not None]
    if not login.sasl:
        if extra := [*given, *(["sasl_mechanism"] if login.mechanism else [])]:
            raise ConfigError(
                f"{', '.join(extra)} given, but security_protocol is {login.protocol}, which logs nobody in: "
                "say SASL_SSL"
            )
        return
    if login.mechanism is None:
        raise ConfigError(f"security_protocol is {login.protocol}, so sasl_mechanism must say how to log in")
    needed = ["token"] if login.mechanism == "OAUTHBEARER" else ["username", "password"]
    if given != needed:
        raise ConfigError(
            f"sasl_mechanism {login.mechanism} needs {' and '.join(needed)} and nothing else, "
            f"given: {', '.join(given) or 'none'}"
        )


def _check_privacy(login: Login, allow_insecure: bool) -> None:
    if not login.tls and (login.ca_file or login.cert_file or login.key_file):
        raise ConfigError(
            f"ca_file, cert_file and key_file are for TLS, but security_protocol is {login.protocol}: "
            f"say {'SASL_SSL' if login.sasl else 'SSL'}"
        )
    if login.sasl and not login.tls and not allow_insecure:
        away = [server for server in login.servers if not is_loopback(server.rpartition(":")[0])]
        if away:
            raise ConfigError(
                f"the secret for Kafka at {', '.join(away)} would be sent in clear text: use SASL_SSL, or say "
                "allow_insecure=True if the network between is trusted"
            )
