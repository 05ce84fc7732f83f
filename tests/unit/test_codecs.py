"""Codecs: what they keep, and that whatever a body is, the only error is DecodeError, which does not repeat it."""

import datetime
import decimal
import enum
import traceback
import uuid
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import (
    BYTES,
    CODECS,
    JSON,
    STRICT_JSON,
    TEXT,
    ByContentType,
    ConfigError,
    DecodeError,
    Headers,
    Message,
    Secret,
    Typed,
    WriteError,
    decode,
    encode,
    structure,
)
from pythia_core.codecs import message_decoder

CANARY = "canary-5f2c"

BAD_JSON = {
    "empty": b"",
    "truncated": b'{"a":',
    "not utf-8": b'"\xff\xfe"',
    "lone surrogate": b'"\\ud800"',
    "not a number": b"NaN",
    "infinite": b"-Infinity",
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 5_000 + b"]" * 5_000,
    "5000 digits": b"1" * 5_000,
    "two documents": b"{} {}",
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@attrs.frozen
class Line:
    sku: str
    count: int


@attrs.frozen
class Order:
    id: str
    lines: list[Line]
    price: float = 0.0
    tags: dict[str, int] = attrs.field(factory=dict)
    note: str | None = None


@pytest.mark.parametrize("codec", [JSON, STRICT_JSON], ids=lambda codec: codec.name)
@pytest.mark.parametrize("raw", BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json_is_a_decode_error(codec: Any, raw: bytes) -> None:
    """Whatever the parser raises, RecursionError and UnicodeError among it, is one error."""
    with pytest.raises(DecodeError) as caught:
        decode(raw, codec)
    assert f"{len(raw)} bytes" in str(caught.value) or "strict-json" in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from(sorted(CODECS)))
def test_no_body_makes_a_codec_raise_anything_else(raw: bytes, name: str) -> None:
    """A stranger's bytes give a value or a DecodeError."""
    try:
        decode(raw, CODECS[name])
    except DecodeError:
        pass


@given(json_values)
def test_json_comes_back_as_it_went(value: Any) -> None:
    """What JSON can say survives the way there and back, in both codecs."""
    for codec in (JSON, STRICT_JSON):
        assert decode(encode(value, codec), codec) == value


class Quoting:
    """A codec of the worst manners: its errors quote the body."""

    name = "quoting"
    content_type = "text/x"

    def encode(self, value: Any) -> bytes:
        raise ValueError(f"cannot take {value}")

    def decode(self, raw: bytes) -> Any:
        raise ValueError(f"invalid literal {raw!r}")


@pytest.mark.parametrize("codec", [JSON, STRICT_JSON, Quoting()], ids=lambda codec: codec.name)
def test_a_decode_error_does_not_repeat_the_body(codec: Any) -> None:
    """Neither the text nor the traceback shows what was in the body."""
    with pytest.raises(DecodeError) as caught:
        decode(f'{{"card": {CANARY}'.encode(), codec)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_an_encoding_error_does_not_repeat_the_value_and_is_permanent() -> None:
    """What cannot be encoded now never can, and the text names only its type."""
    with pytest.raises(WriteError) as caught:
        encode({CANARY}, Quoting())
    assert caught.value.permanent
    assert "a set cannot be encoded as quoting" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_pass_unencoded(value: Any) -> None:
    """Sinks send bytes as they are, whatever the codec."""
    assert encode(value, JSON) == b"\x00\xff"


def test_json_encodes_what_programs_hold() -> None:
    """Attrs classes, dates and enumerations need no converter of the user's."""

    class Colour(enum.Enum):
        RED = "red"

    value = {"line": Line("x", 1), "at": datetime.date(2026, 1, 31), "colour": Colour.RED}
    assert orjson.loads(encode(value)) == {
        "line": {"sku": "x", "count": 1},
        "at": "2026-01-31",
        "colour": "red",
    }


def test_json_refuses_a_secret() -> None:
    """A secret within a value stops the whole of it."""
    with pytest.raises(WriteError) as caught:
        encode({"password": Secret(CANARY)})
    assert CANARY not in str(caught.value)


def test_strict_json_refuses_what_json_would_change() -> None:
    """Names that occur twice and integers past 64 bits are errors, not surprises."""
    assert decode(b'{"a":1,"a":2}') == {"a": 2}
    with pytest.raises(DecodeError, match="a name occurs twice"):
        decode(b'{"a":1,"a":2}', STRICT_JSON)
    assert isinstance(decode(b"1" * 25), float)
    with pytest.raises(DecodeError, match="64-bit"):
        decode(b"1" * 25, STRICT_JSON)


def test_text_and_bytes_are_what_they_say() -> None:
    """Text is UTF-8 and nothing else; bytes are themselves."""
    assert decode("grüße".encode(), TEXT) == "grüße"
    assert decode(b"\xff", BYTES) == b"\xff"
    with pytest.raises(DecodeError, match="UnicodeDecodeError at 0"):
        decode(b"\xff", TEXT)


def test_a_body_is_structured_into_a_class() -> None:
    """Nested classes, defaults and optional fields are filled."""
    order = decode(b'{"id":"7","lines":[{"sku":"x","count":2}],"price":3}', Typed(JSON, Order))
    assert order == Order("7", [Line("x", 2)], 3.0)


def test_types_that_json_writes_as_text_are_structured() -> None:
    """Dates, identifiers and decimals, the last as they are written."""

    @attrs.frozen
    class Payment:
        id: uuid.UUID
        at: datetime.datetime
        amount: decimal.Decimal

    payment = Payment(
        uuid.uuid4(), datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC), decimal.Decimal("1.1")
    )
    assert structure(decode(encode({**attrs.asdict(payment), "amount": 1.1})), Payment) == payment
    with pytest.raises(DecodeError, match="field id is not UUID"):
        structure({"id": 5, "at": "2026-01-31T00:00:00Z", "amount": "x"}, Payment)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"lines": []}, "field id is missing"),
        ({"id": 7, "lines": []}, "field id is not str"),
        (
            {"id": "7", "lines": [{"sku": "x", "count": 1}, {"sku": "y", "count": CANARY}]},
            "field lines[1].count is not int",
        ),
        ({"id": "7", "lines": [{"sku": "x"}]}, "field lines[0].count is missing"),
        ({"id": "7", "lines": [], "price": True}, "field price is not float"),
        ({"id": "7", "lines": [{"sku": "x", "count": 3.7}]}, "field lines[0].count is not int"),
        ({"id": "7", "lines": [{"sku": "x", "count": "3"}]}, "field lines[0].count is not int"),
        ({"id": "7", "lines": [], "tags": {CANARY: "x"}}, "field tags[...] is not int"),
        ([CANARY], "the body, a list, is not Order"),
    ],
)
def test_an_error_of_structure_names_the_field_and_not_its_value(body: Any, told: str) -> None:
    """What does not fit is named by its place; neither values nor keys of the body are repeated."""
    with pytest.raises(DecodeError) as caught:
        structure(body, Order)
    assert told in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_the_content_type_chooses_from_the_allowed_codecs_only() -> None:
    """A header can name no codec that the worker did not list."""
    read = message_decoder(ByContentType([JSON, TEXT]))
    plain = Headers([("content-type", "text/plain")])
    assert read(Message(b"[1]")) == [1]
    assert read(Message(b"[1]", headers=plain)) == "[1]"
    with pytest.raises(DecodeError, match="not allowed here"):
        read(Message(b"[1]", headers=Headers([("content-type", b"application/x-python-pickle")])))


def test_a_choice_of_no_codec_is_refused() -> None:
    """An empty list could decode nothing."""
    with pytest.raises(ConfigError, match="at least one"):
        ByContentType([])
