"""Reaches pods: which there are, by name, and what each says at ``/report``, all within a deadline and a size.

It stands apart from what is made of it (:mod:`~pythia_metrics.pods`). A pod that is slow, gone, or not one of ours costs a
round its deadline at most, and is one that did not answer.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Sequence

import anyio
import attrs
import h11

from pythia_core import ConfigError
from pythia_metrics.report import PodReport, read

__all__ = ["LONGEST", "Place", "Reached", "parse_places", "reach", "resolve"]

LONGEST = 1 << 20
"""Bytes of a report. One of 100 processes takes 60 KiB."""

ANSWER_SECONDS = 3.0  # for one pod: they are asked at the same time, and a round comes every 10 s
RESOLVE_SECONDS = 3.0
AT_ONCE = 32
PORT = 9464

NOT_THERE = frozenset(
    number
    for number in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
    if number is not None  # Linux has it, and POSIX no longer
)
"""What a resolver says of a headless Service without pods: the name is not there, or has no addresses."""

log = logging.getLogger("pythia.scaling")


@attrs.frozen
class Place:
    """Where pods are: a name that stands for all of them, or one address.

    Args:
        host, port: where.
        vouched: a resolver says that there is a pod, so that one which refuses is only not ready yet; at an address that
            somebody wrote down it is not there.
    """

    host: str
    port: int = PORT
    vouched: bool = False

    def __str__(self) -> str:
        return _joined(self.host, self.port)


def parse_places(texts: Sequence[str]) -> list[Place]:
    """Return places of ``HOST[:PORT]``.

    Raises:
        ConfigError: if one is no such thing.
    """
    return [_place(text.strip()) for text in texts]


def _place(text: str) -> Place:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host.strip("[]") and not host.startswith("[")):
        host, port = text, str(PORT)
    if not host.strip("[]") or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"{text!r} is no place where pods are: write HOST or HOST:PORT, such as the name of a headless Service, "
            f"orders.default.svc; the port is {PORT} unless said"
        )
    return Place(host.strip("[]"), int(port))


async def resolve(places: Sequence[Place]) -> list[Place] | None:
    """Return an address for each pod, or None if a resolver did not answer, so that nobody knows which there are."""
    found: dict[Place, None] = {}
    for place in places:
        addresses = await _addresses(place)
        if addresses is None:
            return None
        found.update(dict.fromkeys(addresses))
    return list(found)


async def _addresses(place: Place) -> list[Place] | None:
    try:
        with anyio.fail_after(RESOLVE_SECONDS):
            answers = await anyio.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in NOT_THERE:
            return []
        log.warning("%s cannot be resolved: %s", place.host, error)
        return None
    except (OSError, TimeoutError) as error:
        log.warning("%s cannot be resolved: %s", place.host, str(error) or "no answer in time")
        return None
    hosts = [str(answer[4][0]) for answer in answers]
    # A pod of a dual stack has one of each, and is one.
    fours = [host for host in hosts if ipaddress.ip_address(host.partition("%")[0]).version == 4]
    vouched = place.host not in hosts
    return [Place(host, place.port, vouched) for host in dict.fromkeys(fours or hosts)]


@attrs.frozen
class Reached:
    """What a round brought.

    Args:
        reports: what pods said, by address; those that did not answer in time, or made no sense, are not here.
        absent: addresses that somebody wrote down and where nobody listens.
    """

    reports: dict[str, PodReport] = attrs.field(factory=dict)
    absent: set[str] = attrs.field(factory=set)


async def reach(places: Sequence[Place]) -> Reached:
    """Return what the pods say, all asked at once."""
    found = Reached()
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(place: Place) -> None:
        async with limiter:
            try:
                with anyio.fail_after(ANSWER_SECONDS):
                    found.reports[str(place)] = read(await _get(place))
            except (
                OSError,
                ValueError,
                TimeoutError,
                anyio.BrokenResourceError,
                h11.RemoteProtocolError,
            ) as why:
                if isinstance(why.__cause__, ConnectionRefusedError) and not place.vouched:
                    found.absent.add(str(place))
                log.debug("%s does not report: %s", place, str(why) or type(why).__name__)

    async with anyio.create_task_group() as group:
        for place in places:
            group.start_soon(ask, place)
    return found


async def _get(place: Place) -> bytes:
    """Return the body of ``/report``.

    Raises:
        ValueError: if it is refused, or too long.
        h11.RemoteProtocolError: if what answers speaks no HTTP.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 14)
    headers = [("Host", str(place)), ("Accept", "application/json"), ("Connection", "close")]
    async with await anyio.connect_tcp(place.host, place.port) as stream:
        request = h11.Request(method="GET", target="/report", headers=headers)
        await stream.send(connection.send(request) + connection.send(h11.EndOfMessage()))
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await _more(stream))
            elif isinstance(event, h11.Response) and event.status_code != 200:
                raise ValueError(f"it answers {event.status_code}")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LONGEST:
                    raise ValueError(f"its report is longer than {LONGEST} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise ValueError("it ended in the middle")


async def _more(stream: anyio.abc.ByteReceiveStream) -> bytes:
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
