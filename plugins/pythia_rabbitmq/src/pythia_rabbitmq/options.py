"""Where RabbitMQ is and how to log in: the fields that consumer, producer and admin share, and the rules for them.

They stand apart so that there is one place that reads URLs, and one that refuses to send a password in clear text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from pythia_core import ConfigError, Secret, is_loopback, mask_url

DEFAULT_URL: Final = "amqp://localhost:5672/"
PORTS: Final = {"amqp": 5672, "amqps": 5671}

Host = tuple[str, int]
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(:(?P<port>\d{1,5}))?")


@attrs.frozen(kw_only=True)
class Address:
    """A cluster, as the connection needs it. Its text has no password."""

    hosts: tuple[Host, ...] = (("localhost", 5672),)
    tls: bool = False
    virtual_host: str = "/"
    username: str = "guest"
    password: Secret = attrs.field(factory=lambda: Secret("guest"))
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    heartbeat: int = 10

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


def _show_url(url: Secret | None) -> str:
    return "None" if url is None else repr(mask_url(url.reveal()))


@attrs.define(kw_only=True, slots=False)
class RabbitMQOptions:
    """How to reach RabbitMQ.

    Args:
        url: ``amqp://user:password@host:port/vhost``, or ``amqps://`` (TLS); several hosts with commas between, which
            are tried in random order. The environment's RABBITMQ_URL if left out, else ``amqp://localhost:5672/``.
        host: hosts with commas between, instead of those of the URL.
        virtual_host: wins over the one in the URL.
        username: wins over the one in the URL.
        password: wins over the one in the URL. A function is asked at every connect, so that it can be rotated.
        ca_file: PEM file with the authorities that may sign the servers' certificates; the system's if left out.
        cert_file: PEM file with our own certificate, where the servers ask for one.
        key_file: PEM file with its key.
        allow_insecure: send the password in clear text to another machine.
        heartbeat: seconds; a server that is silent for three of them and 3 s more is given up.
        management_url: of the HTTP API, such as ``http://localhost:15672``, which knows what AMQP does not tell:
            how much is unacknowledged. User and password are the same.
    """

    url: Secret | None = attrs.field(
        default=None, converter=attrs.converters.optional(Secret), repr=_show_url, hash=False
    )
    host: str | None = None
    virtual_host: str | None = None
    username: str | None = None
    password: Secret | None = attrs.field(
        default=None, converter=attrs.converters.optional(Secret), hash=False
    )
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    allow_insecure: bool = False
    heartbeat: int = 10
    management_url: str | None = None

    def address(self, environ: Mapping[str, str] = os.environ) -> Address:
        """Return the servers that these options name.

        Raises:
            ConfigError: if the URL cannot be read, or the password would travel in clear text.
        """
        address = parse(self.url.reveal() if self.url else environ.get("RABBITMQ_URL") or DEFAULT_URL)
        if self.host is not None:
            address = attrs.evolve(
                address, hosts=_hosts(self.host, PORTS["amqps" if address.tls else "amqp"])
            )
        address = attrs.evolve(
            address,
            virtual_host=self.virtual_host or address.virtual_host,
            username=self.username or address.username,
            password=self.password or address.password,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            heartbeat=self.heartbeat,
        )
        self._check(address)
        return address

    def _check(self, address: Address) -> None:
        if not 1 <= self.heartbeat <= 300:
            raise ConfigError(
                f"heartbeat is {self.heartbeat}; it must be 1 to 300 seconds, or a dead server goes unnoticed"
            )
        away = [host for host, _ in address.hosts if not is_loopback(host)]
        if away and not address.tls and not self.allow_insecure:
            raise ConfigError(
                f"the password for RabbitMQ at {', '.join(away)} would be sent in clear text: use amqps:// (TLS), "
                "or say allow_insecure=True if the network between is trusted"
            )
        if not address.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ConfigError(
                f"ca_file, cert_file and key_file are for TLS, but RabbitMQ at {address} is reached without: "
                "write the URL as amqps://"
            )
        if self.management_url is not None:
            self._check_management(self.management_url)

    def _check_management(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigError(
                "management_url is http://host:port or https://host:port, without user and password, which are "
                "those of the URL"
            )
        if parts.scheme == "http" and not is_loopback(parts.hostname) and not self.allow_insecure:
            raise ConfigError(
                f"the password would be sent to {parts.hostname} in clear text: write management_url as https://, "
                "or say allow_insecure=True if the network between is trusted"
            )


def parse(url: str) -> Address:
    """Read a URL. What it raises never repeats it: of a URL that cannot be read nobody knows where the password is.

    Raises:
        ConfigError: if it cannot be read or says something that is not understood.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreadable() from None
    if parts.scheme not in PORTS:
        raise ConfigError(
            f"a RabbitMQ URL starts with amqp:// or amqps://, this one with {parts.scheme[:20]!r}"
        )
    if parts.fragment:
        raise _unreadable()
    _check_query(parse_qs(parts.query, keep_blank_values=True))
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    return Address(
        hosts=_hosts(hosts or "localhost", PORTS[parts.scheme]),
        tls=parts.scheme == "amqps",
        virtual_host=unquote(parts.path[1:]) or "/",
        username=unquote(username) or "guest",
        password=Secret(unquote(password) or "guest"),
    )


def _check_query(query: Mapping[str, object]) -> None:
    if "no_verify_ssl" in query:
        raise ConfigError(
            "the RabbitMQ URL says no_verify_ssl: certificates are always verified; name the authority with ca_file="
        )
    if query:
        raise ConfigError(
            f"the RabbitMQ URL has the parameter(s) {', '.join(sorted(query))[:100]}; none is understood there, "
            "everything is an argument beside url="
        )


def _hosts(text: str, port: int) -> tuple[Host, ...]:
    hosts = []
    for part in text.split(","):
        match = _HOST.fullmatch(part.strip())
        if match is None or int(match["port"] or port) > 65_535:
            raise _unreadable()
        hosts.append((match["host"].strip("[]"), int(match["port"] or port)))
    return tuple(hosts)


def _unreadable() -> ConfigError:
    return ConfigError(
        "the RabbitMQ URL or host cannot be read: it is amqp://user:password@host:port/vhost, and characters of the "
        "password other than letters and digits are written as %XX"
    )
