"""The server answers whatever strangers do with their connections."""

import contextlib
import socket
import time
from collections.abc import Iterator

import psutil
import pytest
from starlette.requests import Request

from pythia_metrics import serving as module
from pythia_metrics.server import Answer, Server
from pythia_metrics.serving import MOST, REQUEST_BYTES
from tests.waiting import wait_until


def answer(request: Request) -> Answer:
    """Say what was asked, or fail."""
    path = request.url.path
    if path == "/broken":
        raise RuntimeError("secret")
    if path == "/long":
        return Answer("x" * 5_000_000)
    return Answer(f"{request.path_params} {dict(request.query_params)}\n")


ROUTES = {"/{path:path}": answer}


@pytest.fixture
def port() -> Iterator[int]:
    """Run a server on a free port of this machine."""
    server = Server(ROUTES)
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
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"connection: close" in head.lower()
    assert body == b"{'path': 'a b'} {'x': '1', 'y': ''}\n"
    assert f"content-length: {len(body)}".encode() in head.lower()


def test_h3_nothing_can_be_changed(port: int) -> None:
    """There is no other verb, and HEAD has no body."""
    assert ask(port, b"POST / HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    assert ask(port, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").endswith(b"\r\n\r\n")
    assert ask(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_h3_an_error_is_not_shown(port: int) -> None:
    """The log has it, a stranger has not."""
    said = ask(port, b"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n")
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
        assert ask(port, b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - began < 1.0


def test_h1_who_does_not_read_holds_nobody_up(port: int) -> None:
    """An answer that nobody takes waits in its connection, not in the server."""
    with connected(port) as slow:
        slow.sendall(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: select_readable(slow), "the answer has begun")
        assert ask(port, b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert len(ask(port, b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")) > 5_000_000


def test_h1_an_answer_has_its_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who never takes it is cut off, whatever is left of it."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    with connected(port) as slow:
        slow.sendall(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: select_readable(slow), "the answer has begun")
        wait_until(lambda: len(living(port)) == 0, "it was cut off")
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := slow.recv(65536):
                received += len(part)
        assert received < 5_000_000


def living(port: int) -> list[int]:
    """Return the descriptors of the server's ends of connections."""
    connections = psutil.Process().net_connections("tcp")
    return [one.fd for one in connections if one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED]


def test_h3_one_request_to_a_connection(port: int) -> None:
    """What comes after the first is not read: a body neither, however long it was to be."""
    both = ask(port, b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert both.count(b"HTTP/1.1 ") == 1 and b"'1'" in both
    head = b"GET /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\nx"
    assert ask(port, head).startswith(b"HTTP/1.1 200 ")


def test_h3_what_is_not_there_is_said_in_our_words(port: int) -> None:
    """Neither the library's nor its version."""
    server = Server({"/x": answer})
    _, number = server.open("127.0.0.1", 0)
    said = ask(number, b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n").lower()
    server.close()
    assert said.startswith(b"http/1.1 404 ") and said.endswith(b"not here; see /\n")
    assert b"uvicorn" not in said and b"nosniff" in said and b"no-store" in said


def test_strangers_write_nothing_into_the_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nonsense is no event; a handler that fails is."""
    caplog.set_level("DEBUG")
    ask(port, b"nonsense\r\n\r\n")
    ask(port, b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
    ask(port, b"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "an answer failed"
    ]


def test_close_waits_for_nobody() -> None:
    """Neither for who has not asked yet, nor for who does not take his answer."""
    server = Server(ROUTES)
    _, port = server.open("127.0.0.1", 0)
    with connected(port) as idle, connected(port) as slow:
        idle.sendall(b"GET / HT")
        slow.sendall(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: select_readable(slow), "the answer has begun")
        server.close()
        assert server._thread is not None and not server._thread.is_alive()
        assert living(port) == []


def test_a_port_in_use_raises(port: int) -> None:
    """The core says it in words."""
    with pytest.raises(OSError, match="in use"):
        Server(ROUTES).open("127.0.0.1", port)


def test_close_frees_the_port() -> None:
    """At once, so that the next run can have it."""
    server = Server(ROUTES)
    _, port = server.open("127.0.0.1", 0)
    server.close()
    with pytest.raises(OSError):
        connected(port)
