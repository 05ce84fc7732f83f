"""Asks a running monitor, from the standard library alone: what a probe in a container runs every few seconds."""

from __future__ import annotations

import http.client
import os
from urllib.parse import urlsplit

from pythia_core import ConfigError

__all__ = ["ask", "default_url"]


def default_url() -> str:
    """Return where a monitor listens by the environment's PYTHIA_LISTEN, else by default."""
    said = os.environ.get("PYTHIA_LISTEN") or "9464"
    host, _, port = said.rpartition(":")
    wildcard = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
    return f"http://{wildcard.get(host, host)}:{port}"


def ask(url: str, path: str, timeout: float) -> tuple[int, str]:
    """Return status and body of a GET.

    Raises:
        ConfigError: if the address is no address.
        OSError: if nobody answers there in time.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"{url!r} is no address of a monitor, such as http://127.0.0.1:9464")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 24).decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"what answers there is no monitor: {type(error).__name__}") from None
    finally:
        connection.close()
