"""Where Redis is and how to log in: the fields that consumer, producer and admin share, and the rules for them.

They stand apart so that there is one place that reads URLs, and one that refuses to send a password in clear text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import attrs

from pythia_core import ConfigError, Secret, is_loopback, mask_url

DEFAULT_URL: Final = "redis://localhost:6379/0"
SCHEMES: Final = ("redis", "rediss", "unix")


@attrs.frozen(kw_only=True)
class Address:
    """One Redis server, as the connection needs it. Its text has no password."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None  # of a Unix socket
    tls: bool = False
    db: int = 0
    username: str | None = None
    password: Secret | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    @property
    def private(self) -> bool:
        """Whether nobody else can read what is sent there."""
        return self.tls or self.path is not None or is_loopback(self.host)


def _show_url(url: Secret | None) -> str:
    return "None" if url is None else repr(mask_url(url.reveal()))


@attrs.define(kw_only=True, slots=False)
class RedisOptions:
    """How to reach Redis.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``; the environment's REDIS_URL if left out, else
            ``redis://localhost:6379/0``.
        username: of the ACL user; wins over the one in the URL.
        password: wins over the one in the URL. A function is asked at every connect, so that it can be rotated.
        ca_file: PEM file with the authorities that may sign the server's certificate; the system's if left out.
        cert_file: PEM file with our own certificate, where the server asks for one.
        key_file: PEM file with its key.
        allow_insecure: send the password in clear text to another machine.
    """

    url: Secret | None = attrs.field(
        default=None, converter=attrs.converters.optional(Secret), repr=_show_url, hash=False
    )
    username: str | None = None
    password: Secret | None = attrs.field(
        default=None, converter=attrs.converters.optional(Secret), hash=False
    )
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    allow_insecure: bool = False

    def address(self, environ: Mapping[str, str] = os.environ) -> Address:
        """Return the server that these options name.

        Raises:
            ConfigError: if the URL cannot be read, or the password would travel in clear text.
        """
        address = parse(self.url.reveal() if self.url else environ.get("REDIS_URL") or DEFAULT_URL)
        address = attrs.evolve(
            address,
            username=self.username or address.username,
            password=self.password or address.password,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
        )
        self._check(address)
        return address

    def _check(self, address: Address) -> None:
        if address.password and not address.private and not self.allow_insecure:
            raise ConfigError(
                f"the password for Redis at {address} would be sent in clear text: use rediss:// (TLS), "
                "or say allow_insecure=True if the network between is trusted"
            )
        if not address.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ConfigError(
                f"ca_file, cert_file and key_file are for TLS, but Redis at {address} is reached without: "
                "write the URL as rediss://"
            )


def parse(url: str) -> Address:
    """Read a URL. What it raises never repeats it: of a URL that cannot be read nobody knows where the password is.

    Raises:
        ConfigError: if it cannot be read or says something that is not understood.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(
            "the Redis URL cannot be read: it is redis://user:password@host:port/db, and characters of the "
            "password other than letters and digits are written as %XX"
        ) from None
    if parts.scheme not in SCHEMES:
        allowed = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"a Redis URL starts with one of {allowed}, this one with {parts.scheme[:20]!r}")
    return Address(
        host=host or "localhost",
        port=port or 6379,
        path=unquote(parts.path) if parts.scheme == "unix" else None,
        tls=parts.scheme == "rediss",
        db=_database(parts),
        username=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
    )


def _database(parts: SplitResult) -> int:
    query = parse_qs(parts.query, keep_blank_values=True)
    if unknown := sorted(set(query) - {"db"}):
        raise ConfigError(
            f"the Redis URL has the parameter(s) {', '.join(unknown)[:100]}; only db is understood there, "
            "everything else is an argument beside url="
        )
    text = query["db"][-1] if "db" in query else "" if parts.scheme == "unix" else parts.path.strip("/")
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise ConfigError("the database of a Redis URL is a number: redis://host:6379/0")
    return int(text)
