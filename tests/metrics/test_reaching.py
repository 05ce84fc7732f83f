"""Pods are reached by name, all at once, within a deadline and a size, and what is no report is nobody."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import anyio
import attrs
import pytest

from pythia_core import ConfigError
from pythia_metrics import reaching
from pythia_metrics.reaching import Place, Reached, parse_places, reach, resolve
from tests.metrics.outside import pod

BODY = json.dumps(attrs.asdict(pod("a", 7))).encode()
LONG = BODY + b" " * 300_000  # a good report, but for its length
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)

Starting = Callable[[bytes], Place]


@pytest.fixture
def start() -> Iterator[Starting]:
    """Start servers that say something to everybody who connects, and keep the connection open."""
    with ExitStack() as stack:

        def begin(said: bytes) -> Place:
            server = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

            def serve() -> None:
                connections = []
                while True:
                    try:
                        connection, _ = server.accept()
                    except OSError:
                        break
                    connections.append(connection)
                    connection.recv(4096)
                    try:
                        connection.sendall(said)
                    except OSError:
                        continue
                for connection in connections:
                    connection.close()

            threading.Thread(target=serve, daemon=True).start()
            stack.callback(lambda: socket.create_connection(server.getsockname(), 1).close())
            return Place("127.0.0.1", server.getsockname()[1])

        yield begin


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("orders", Place("orders", 9464)),
        ("orders.default.svc:8000", Place("orders.default.svc", 8000)),
        ("10.0.0.1:1", Place("10.0.0.1", 1)),
        ("::1", Place("::1", 9464)),
        ("[::1]", Place("::1", 9464)),
        ("[::1]:80", Place("::1", 80)),
    ],
)
def test_a_place_is_a_host_and_perhaps_a_port(text: str, place: Place) -> None:
    """The port is the monitor's own unless it is said."""
    assert parse_places([text]) == [place]


@pytest.mark.parametrize("text", ["", ":80", "orders:", "orders:web", "orders:0", "http://orders:80"])
def test_what_is_no_place_is_refused(text: str) -> None:
    """With what one looks like."""
    with pytest.raises(ConfigError, match="is no place where pods are"):
        parse_places([text])


async def test_pods_are_reached_and_the_others_left_out(
    start: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that says nothing, one that refuses, one that is gone, one that talks on, one of another kind: no report."""
    monkeypatch.setattr(reaching, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(reaching, "LONGEST", 100_000)
    good = start(GOOD)
    others = [
        start(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nhalf of i"),
        start(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        start(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(LONG), LONG)),
        start(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        start(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"),
        Place("127.0.0.1", 1),
    ]
    assert await reach([good, *others]) == Reached({str(good): pod("a", 7)}, {"127.0.0.1:1"})
    assert await reach([Place("127.0.0.1", 1, vouched=True)]) == Reached()


async def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of IPv4 if there are any, since a pod of a dual stack is one pod."""
    said = {
        "pods": ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"],
        "six": ["fd00::1", "fd00::1"],
        "10.0.0.9": ["10.0.0.9"],
    }

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in said[host]]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    assert await resolve([Place("pods", 1), Place("six", 2), Place("10.0.0.9", 3)]) == [
        Place("10.0.0.1", 1, vouched=True),
        Place("10.0.0.2", 1, vouched=True),
        Place("fd00::1", 2, vouched=True),
        Place("10.0.0.9", 3),
    ]


@pytest.mark.parametrize(
    ("number", "found"), [(socket.EAI_NONAME, []), (socket.EAI_AGAIN, None), (socket.EAI_FAIL, None)]
)
async def test_no_pods_is_not_no_answer(
    monkeypatch: pytest.MonkeyPatch, number: int, found: list[Place] | None
) -> None:
    """A headless Service without pods has no name; a resolver that is down knows nothing."""

    async def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "said so")

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    assert await resolve([Place("orders")]) == found
