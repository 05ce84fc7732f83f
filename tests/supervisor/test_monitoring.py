"""Monitors are told everything and can harm nothing."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from pythia_core import Monitor, Telemetry
from pythia_core.errors import ConfigError
from pythia_core.monitoring import Monitoring, parse_address
from pythia_core.runtime import has_monitor


class Recorder(Monitor):
    """Writes down what it is told; refuses where a socket would."""

    made: ClassVar[list[Recorder]] = []

    def __init__(self) -> None:
        self.heard: list[Any] = []
        Recorder.made.append(self)

    def open(self, host: str, port: int) -> None:
        with socket.socket() as trial:
            trial.bind((host, port))
        self.heard.append((host, port))

    def take(self, number: int, slot: int, report: Mapping[str, Any]) -> None:
        self.heard.append(("take", number, slot))
        if report.get("bad"):
            raise RuntimeError("bad report")

    def forget(self, number: int) -> None:
        self.heard.append(("forget", number))


class Watched(Telemetry):
    @classmethod
    def monitor(cls) -> Monitor:
        return Recorder()


def test_only_a_telemetry_with_a_monitor_of_its_own_has_one() -> None:
    """The contract's answer is None, and a subclass of one that has it has it too."""
    assert has_monitor(Watched) and has_monitor(type("Sub", (Watched,), {}))
    assert not has_monitor(Telemetry) and not has_monitor(lambda: Watched())


def test_a_monitor_that_raises_is_dropped_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks on must not stop the work."""
    monitoring = Monitoring()
    monitoring.open("0", [Watched, Watched])
    recorder = Recorder.made[-1]
    with caplog.at_level(logging.ERROR, "pythia.monitoring"):
        monitoring.take(1, 0, {})
        monitoring.take(2, 1, {"bad": True})
        monitoring.take(3, 2, {})
    assert recorder.heard[1:] == [("take", 1, 0), ("take", 2, 1)]
    assert not monitoring and len(caplog.records) == 1


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    """The address, what is wrong with it, and the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}.*in use.*another port"):
            Monitoring().open(str(port), [Watched])


def test_without_the_plugin_it_says_what_to_install() -> None:
    """Somebody who asks for a port gets one, or the line that would give him one."""
    with pytest.raises(ConfigError, match="pip install"):
        Monitoring().open("9464", [])


@pytest.mark.parametrize(
    ("text", "address"),
    [("9464", ("127.0.0.1", 9464)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:9464", ("::1", 9464))],
)
def test_an_address_without_a_host_is_this_machines(text: str, address: tuple[str, int]) -> None:
    """Nothing is shown to a network that nobody asked to show it to."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "here", "here:", "1:70000", "-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """With what would be one."""
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)
