"""Deliveries cut out of what comes, beside pamqp, which reads the same: whatever is sent, and however it is cut in pieces."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from pythia_rabbitmq.message import RabbitMQMessage
from pythia_rabbitmq.tolerance import UNREADABLE
from pythia_rabbitmq.wire import SIGN_OF_LIFE, Wire

OURS, OTHER = 2, 3

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
names = st.from_regex(r"[a-z.:]{0,20}", fullmatch=True)
headers = st.dictionaries(texts, st.one_of(texts, st.integers(0, 99), st.booleans(), st.none()), max_size=3)
all_properties = st.builds(
    spec.Basic.Properties,
    content_type=names,
    headers=st.one_of(st.none(), headers),
    delivery_mode=st.sampled_from([1, 2]),
    message_id=texts,
    priority=st.one_of(st.none(), st.integers(0, 9)),
)
bodies = st.lists(st.binary(min_size=1, max_size=300), max_size=3)


@attrs.frozen
class Sent:
    """What a server sends: a frame, or one that announces a message, with its content."""

    channel: int
    first: Any
    properties: spec.Basic.Properties | None = None
    body: Sequence[bytes] = ()

    @property
    def data(self) -> bytes:
        """As it is sent."""
        frames = [self.first]
        if self.properties is not None:
            size = sum(map(len, self.body))
            frames += [
                ContentHeader(properties=self.properties, body_size=size),
                *map(ContentBody, self.body),
            ]
        return b"".join(frame.marshal(each, self.channel) for each in frames)

    @property
    def is_ours(self) -> bool:
        """Whether it is to be taken."""
        return self.channel == OURS and isinstance(self.first, spec.Basic.Deliver)


def messages(channel: int) -> st.SearchStrategy[Sent]:
    """Make what comes on a channel with content: delivered, asked for, returned."""
    delivered = st.builds(
        spec.Basic.Deliver,
        consumer_tag=texts,
        delivery_tag=st.integers(1, 2**63 - 1),
        redelivered=st.booleans(),
        exchange=names,
        routing_key=texts,
    )
    asked_for = st.builds(
        spec.Basic.GetOk, delivery_tag=st.integers(1, 99), routing_key=texts, message_count=st.just(1)
    )
    returned = st.builds(spec.Basic.Return, reply_code=st.just(312), reply_text=texts, routing_key=texts)
    return st.builds(
        Sent, st.just(channel), st.one_of(delivered, delivered, asked_for, returned), all_properties, bodies
    )


bare = st.one_of(
    st.builds(Sent, st.just(0), st.builds(Heartbeat)),
    st.builds(
        Sent, st.sampled_from([OURS, OTHER]), st.builds(spec.Basic.Ack, delivery_tag=st.integers(1, 99))
    ),
    st.builds(Sent, st.just(OURS), st.builds(spec.Basic.CancelOk, consumer_tag=names)),
)


class Heard:
    """What comes out of a wire."""

    def __init__(self) -> None:
        self.taken: list[RabbitMQMessage] = []
        self.handed_on: list[bytes] = []
        self.calls = 0
        self.wire = Wire(self.handed_on.append)
        self.wire.take(OURS, self.taken.append, self.came)

    def came(self) -> None:
        """Count."""
        self.calls += 1


def frames_of(data: bytes) -> list[bytes]:
    """Return the frames that bytes hold, but for heartbeats; all of them have to be whole."""
    found = []
    while data:
        size, _, _ = frame.unmarshal(data)
        if not data.startswith(SIGN_OF_LIFE):
            found.append(data[:size])
        data = data[size:]
    return found


@given(
    st.lists(st.one_of(messages(OURS), messages(OTHER), bare), max_size=12), st.randoms(use_true_random=False)
)
def test_deliveries_are_taken_and_all_else_is_handed_on(sent: list[Sent], random: Any) -> None:
    """W1, W2, W3: in order, as pamqp reads it, with a sign of life, at whatever byte the pieces begin."""
    heard = Heard()
    data = b"".join(each.data for each in sent)
    cuts = sorted(random.choices(range(len(data) + 1), k=random.randrange(12)))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        before, told = len(heard.taken), len(heard.handed_on)
        heard.wire.feed(data[start:end])
        piece = b"".join(heard.handed_on[told:])
        frames_of(piece)
        if len(heard.taken) > before:
            assert SIGN_OF_LIFE in piece
            assert heard.calls
    others = [each.data for each in sent if not each.is_ours]
    assert frames_of(b"".join(heard.handed_on)) == frames_of(b"".join(others))
    ours = [each for each in sent if each.is_ours]
    assert len(heard.taken) == len(ours)
    for message, each in zip(heard.taken, ours, strict=True):
        assert message.raw == b"".join(each.body)
        assert message.position == each.first.delivery_tag
        assert dict(message.delivery) == dict(each.first)
        _, _, read = frame.unmarshal(
            frame.marshal(ContentHeader(properties=each.properties, body_size=0), OURS)
        )
        assert isinstance(read, ContentHeader)
        assert dict(message.properties) == dict(read.properties)


DELIVERY = Sent(
    OURS,
    spec.Basic.Deliver(consumer_tag="c", delivery_tag=1, routing_key=""),
    spec.Basic.Properties(message_id="m"),
    [b"body"],
)


@pytest.mark.parametrize("broken", [b"AMQP\0\0\x09\x01", b"\x01\0\x02\0\0\0\x01xy", b"\x07\0\0\0\0\0\0\xce"])
def test_what_is_no_frame_is_handed_on_with_all_that_follows(broken: bytes) -> None:
    """W4: the header of another protocol, a frame without its end, one of an unknown kind."""
    heard = Heard()
    heard.wire.feed(DELIVERY.data + broken)
    heard.wire.feed(DELIVERY.data)
    assert len(heard.taken) == 1
    assert b"".join(heard.handed_on) == SIGN_OF_LIFE + broken + DELIVERY.data


def test_a_frame_that_is_cut_off_is_handed_on_in_the_end() -> None:
    """So that the end of the connection is what aiormq says that it is."""
    heard = Heard()
    heard.wire.feed(DELIVERY.data[:10])
    assert b"".join(heard.handed_on) == b""
    heard.wire.flush()
    assert b"".join(heard.handed_on) == DELIVERY.data[:10]


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {UNREADABLE: b""}),
        (b"\x00", {UNREADABLE: b"\x00"}),
        (b"\x20\x00", {}),
        (b"\x00\x40\0\0", {}),
        (b"\x08\x00", {UNREADABLE: b"\x08\x00"}),
        (b"\x80\x00\x09short", {"content-type": "short"}),
        (b"\x20\x00\0\0\0\x02\x01", {UNREADABLE: b"\x01"}),
    ],
)
def test_properties_that_cannot_be_read_are_handed_over_as_they_are(content: bytes, headers: Any) -> None:
    """Nobody is hurt by looking: it would be the worker, at every delivery anew."""
    message = RabbitMQMessage(b"\x01c" + (7).to_bytes(8, "big") + b"\0\0\0", content, b"{}")
    assert (message.position, message.deliveries, message.key) == (7, 1, None)
    assert dict(message.headers) == headers
