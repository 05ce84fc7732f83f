"""The server answers whatever strangers do with their connections."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from pythia_metrics import server as module
from pythia_metrics.server import MOST, REQUEST_BYTES, Answer, Server
from tests.waiting import wait_until


def answer(path: str, query: dict[str, str]) -> Answer:
    """Say what was asked, or fail."""
    if path == "/broken":
        raise RuntimeError("secret")
    if path == "/long":
        return Answer("x" * 5_000_000)
    return Answer(f"{path} {query}\n")


@pytest.fixture
def port() -> Iterator[int]:
    """Run a server on a free port of this machine."""
    server = Server(answer)
    _, number = server.open("127.0.0.1", 0)
    yield number
    server.close()


def connected(port: int) -> socket.socket:
    """Return a connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def ask(port: int, request: bytes) -> bytes:
    """Send and read to the end."""
    with connected(port) as client:
        client.sendall(request)
        parts = []
        with contextlib.suppress(ConnectionResetError):  # it closed before it had read all
            while part := client.recv(65536):
                parts.append(part)
        return b"".join(parts)


def test_a_get_is_answered_with_path_and_query(port: int) -> None:
    """The body, its length, and the end of the connection."""
    said = ask(port, b"GET /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"Connection: close" in head
    assert body == b"/a b {'x': '1', 'y': ''}\n"
    assert f"Content-Length: {len(body)}".encode() in head


def test_h3_nothing_can_be_changed(port: int) -> None:
    """There is no other verb, and HEAD has no body."""
    assert ask(port, b"POST / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    assert ask(port, b"HEAD / HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n")
    assert ask(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_h3_an_error_is_not_shown(port: int) -> None:
    """The log has it, a stranger has not."""
    said = ask(port, b"GET /broken HTTP/1.1\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 500 ") and b"secret" not in said


def test_h1_a_request_has_4_kib(port: int) -> None:
    """Headers without end are cut off."""
    said = ask(port, b"GET / HTTP/1.1\r\nx: " + b"y" * 2 * REQUEST_BYTES)
    assert said.startswith(b"HTTP/1.1 431 ") or said == b""


def test_h1_a_request_that_never_ends_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow loris sends a byte now and then; it has two seconds in all."""
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.3)
    began = time.monotonic()
    with connected(port) as client:
        client.sendall(b"GET / HT")
        while True:
            try:
                client.sendall(b"T")
                if select_readable(client) and client.recv(1) == b"":
                    break
            except OSError:
                break
            assert time.monotonic() - began < 10
    assert time.monotonic() - began >= 0.25


def select_readable(client: socket.socket) -> bool:
    """Tell whether there is something to read within a moment."""
    import select

    return bool(select.select([client], [], [], 0.05)[0])


def test_h2_a_probe_gets_in_while_strangers_hold_every_connection(port: int) -> None:
    """The oldest has to go; a new one is read at once."""
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(port)) for _ in range(3 * MOST)]
        for client in idle[-MOST:]:
            client.sendall(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        assert ask(port, b"GET /livez HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - began < 1.0


def test_h1_who_does_not_read_holds_nobody_up(port: int) -> None:
    """An answer that nobody takes waits in its connection, not in the server."""
    with connected(port) as slow:
        slow.sendall(b"GET /long HTTP/1.1\r\n\r\n")
        wait_until(lambda: select_readable(slow), "the answer has begun")
        assert ask(port, b"GET /x HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert len(ask(port, b"GET /long HTTP/1.1\r\n\r\n")) > 5_000_000


def test_a_port_in_use_raises(port: int) -> None:
    """The core says it in words."""
    with pytest.raises(OSError, match="in use"):
        Server(answer).open("127.0.0.1", port)


def test_close_frees_the_port() -> None:
    """At once, so that the next run can have it."""
    server = Server(answer)
    _, port = server.open("127.0.0.1", 0)
    server.close()
    with pytest.raises(OSError):
        connected(port)
