"""Opens monitors and keeps what they do wrong from harming anybody: they see everything and can change nothing.

It stands apart because the supervisor and a process without one do the same with them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from pythia_core.contracts import Monitor
from pythia_core.errors import ConfigError
from pythia_core.runtime import has_monitor

__all__ = ["Monitoring", "monitors_of", "parse_address"]

log = logging.getLogger("pythia.monitoring")

LOOPBACK = "127.0.0.1"


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``[HOST:]PORT``; without a host only this machine is listened to.

    Raises:
        ConfigError: if it is no such thing.
    """
    host, _, port = text.strip().rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) < 65536:
        raise ConfigError(
            f"{text!r} is no address to listen on: write PORT or HOST:PORT, such as 127.0.0.1:9464"
        )
    return host.strip("[]") or LOOPBACK, int(port)


def monitors_of(kinds: Iterable[Any]) -> list[Monitor]:
    """Return the monitors of telemetry classes, one each."""
    made = [kind.monitor() for kind in dict.fromkeys(kinds) if has_monitor(kind)]
    return [monitor for monitor in made if monitor is not None]


@attrs.define(eq=False)
class Monitoring:
    """The monitors that were opened. Empty, it does nothing."""

    _monitors: list[Monitor] = attrs.field(factory=list)

    def __bool__(self) -> bool:
        return bool(self._monitors)

    def open(self, address: str, kinds: Iterable[Any]) -> None:
        """Open the monitors of telemetry classes at an address.

        Raises:
            ConfigError: if there is none, or the address cannot be listened on.
        """
        host, port = parse_address(address)
        found = monitors_of(kinds)
        if not found:
            raise ConfigError(
                f"nothing that is installed can listen on {address}: install it from the checkout, "
                "pip install ./plugins/pythia_metrics"
            )
        for monitor in found:
            try:
                monitor.open(host, port)
            except OSError as error:
                why = error.strerror or str(error)
                raise ConfigError(
                    f"cannot listen on {host}:{port} for metrics and health: {why}; give another port, "
                    "or end what listens there"
                ) from None
            self._monitors.append(monitor)

    def take(self, number: int, slot: int, report: Mapping[str, Any]) -> None:
        """Hand on a report."""
        self._tell("take", number, slot, report)

    def forget(self, number: int) -> None:
        """Hand on a death."""
        self._tell("forget", number)

    def show(self, fleet: Mapping[str, Any]) -> None:
        """Hand on the state of all."""
        self._tell("show", fleet)

    def close(self) -> None:
        """Close all."""
        self._tell("close")
        self._monitors.clear()

    def _tell(self, what: str, *details: Any) -> None:
        for monitor in list(self._monitors):
            try:
                getattr(monitor, what)(*details)
            except Exception:
                self._monitors.remove(monitor)
                log.exception("monitor %s raised and is dropped", type(monitor).__name__)
