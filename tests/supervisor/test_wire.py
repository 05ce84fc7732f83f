"""The pipe between supervisor and child: whole messages only, and nobody waits for a peer that does not read."""

import socket
from collections.abc import Iterator

import pytest

from pythia_core.supervisor.wire import LONGEST, Mailbox, pack


@pytest.fixture
def ends() -> Iterator[tuple[Mailbox, Mailbox]]:
    """Two ends of one pipe."""
    left, right = map(Mailbox, socket.socketpair())
    yield left, right
    left.close()
    right.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Mailbox, Mailbox]) -> None:
    """However the bytes are cut, a message is a message."""
    left, right = ends
    first, second = pack({"n": 1}), pack({"n": 2})
    left.socket.send(first[:4])
    assert right.receive() == []
    left.socket.send(first[4:] + second)
    assert right.receive() == [{"n": 1}, {"n": 2}]


def test_a_peer_that_does_not_read_costs_nothing(ends: tuple[Mailbox, Mailbox]) -> None:
    """Sending never blocks, what is kept has a bound, and what was kept arrives once the peer reads again."""
    left, right = ends
    for number in range(5000):
        left.send({"n": number, "text": "x" * 1000})
    assert not left.flush()
    assert len(left._outgoing) < LONGEST + 2000
    received = []
    while not left.flush():
        received += right.receive()
    received += right.receive()
    numbers = [message["n"] for message in received]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 500


def test_a_dead_peer_is_no_error(ends: tuple[Mailbox, Mailbox]) -> None:
    """The reader learns of the end, the writer does not care."""
    left, right = ends
    left.send({"last": "words"})
    left.close()
    assert right.receive() == [{"last": "words"}]
    assert right.closed
    right.send({"too": "late"})
    assert right.flush()
