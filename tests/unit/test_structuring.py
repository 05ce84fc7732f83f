"""Typed bodies: what becomes of values that almost fit, what errors say, and what comes back as it went."""

import dataclasses
import enum
import traceback
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import (
    JSON,
    STRICT_JSON,
    TEXT,
    ByContentType,
    DecodeError,
    Headers,
    Message,
    Typed,
    WriteError,
    decode,
    encode,
    structure,
)
from pythia_core.codecs import message_decoder

CANARY = "canary-5f2c"
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Card:
    kind: Literal["card"]
    number: str


@attrs.frozen
class Bank:
    kind: Literal["bank"]
    iban: str


@attrs.frozen
class Point:
    x: int
    y: int = 0


@attrs.frozen
class Defaults:
    a: int = 1
    b: list[int] = attrs.field(factory=list)


@attrs.frozen
class Node:
    value: int
    next: "Node | None" = None


@attrs.frozen
class Box(Generic[T]):
    item: T


@attrs.frozen
class Positive:
    n: int = attrs.field(validator=attrs.validators.ge(0))


def _of_a_table(value: Any) -> Any:
    return {1: "one"}[value]


@attrs.frozen
class Looked:
    n: Any = attrs.field(converter=_of_a_table)


@attrs.frozen
class Outer:
    how: Card | Bank | None = None
    positive: Positive | None = None
    looked: Looked | None = None
    node: Node | None = None
    _private: int = 0


@dataclasses.dataclass
class Plain:
    a: int
    tags: dict[str, Point] = dataclasses.field(default_factory=dict)


class Typing(TypedDict):
    a: int
    b: NotRequired[str]


class Pair(NamedTuple):
    a: int
    b: str


def deep(levels: int) -> Any:
    """Return a chain of so many nodes."""
    chain: Any = None
    for value in range(levels):
        chain = {"value": value, "next": chain}
    return chain


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("red", Colour, Colour.RED),
        (2, Level, Level.HIGH),
        ({"kind": "bank", "iban": "x"}, Card | Bank, Bank("bank", "x")),
        ({"x": 1}, Point | dict[str, str], Point(1)),
        ({"x": "left"}, Point | dict[str, str], {"x": "left"}),
        ("2026-01-31", date | str, date(2026, 1, 31)),
        ("tomorrow", date | str, "tomorrow"),
        (5, Decimal | int, 5),
        ("5", Decimal | int, Decimal(5)),
        (3, float | None, 3.0),
        (None, int | None, None),
        ([1], list[int] | int, [1]),
        ({"7": 1}, dict[int, int], {7: 1}),
        ({"red": 1}, Mapping[Colour, int], {Colour.RED: 1}),
        ([1, "x"], Pair, Pair(1, "x")),
        ([1, "x"], tuple[int, str], (1, "x")),
        ([1, 2], tuple[int, ...], (1, 2)),
        (["x"], Sequence[str], ["x"]),
        ({"a": 1, "tags": {"p": {"x": 1}}}, Plain, Plain(1, {"p": Point(1)})),
        ({"a": 1}, Typing, {"a": 1}),
        ({"item": 1}, Box[int], Box(1)),
        ({"x": 1, "unknown": 2}, Point, Point(1)),
        ({"private": 3}, Outer, Outer(private=3)),
        ("aGk=", bytes, b"hi"),
        ("12:30", time, time(12, 30)),
        ([1, None], list[object], [1, None]),
        (deep(200), Node, None),
    ],
    ids=str,
)
def test_a_body_becomes_its_type(body: Any, kind: Any, expected: Any) -> None:
    """JSON's values become what they stand for, in unions too."""
    found = structure(body, kind)
    assert expected is None or (found == expected and type(found) is type(expected))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (True, int),
        (True, int | str),
        (1, bool | str),
        (True, Level),
        (1.0, Level),
        ("1", Level),
        (1, Literal[True]),
        (1.0, Literal[1]),
        ("abc", list[str]),
        ({"a": 1}, list[str]),
        ("ab", tuple[str, str]),
        ("a", set[str]),
        ({"a": 1, "b": "x"}, Pair),
        ([1, "x", 2], tuple[int, str]),
        ([], Defaults),
        ("", Defaults),
        ("ab", Defaults),
        (None, Defaults),
        ([1], dict[str, int]),
        ([], Typing),
        ("NaN", Decimal),
        ("Infinity", Decimal),
        (True, Decimal),
        (10**400, float),
        (1577836800, datetime),
        ("2026-01-31T00:00:00", date),
        ("!!", bytes),
        ("red", Literal["blue"]),
        ([[1]], set[Any]),
        ({"kind": "cash"}, Card | Bank),
    ],
    ids=str,
)
def test_what_only_looks_alike_is_refused(body: Any, kind: Any) -> None:
    """Python would take true for 1 and a text for a list of letters; a message means neither."""
    with pytest.raises(DecodeError, match=r"^the body, an? \w+, is not "):
        structure(body, kind)


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        ({"how": {"kind": CANARY}}, Outer, "Outer: field how is not Card | Bank | None"),
        ({"how": {"kind": "card", "number": 1}}, Outer, "Outer: field how.number is not str"),
        ({"how": {"kind": "card"}}, Outer, "Outer: field how.number is missing"),
        ({"positive": {"n": -77}}, Outer, "field positive.n is refused by its validator (ValueError)"),
        ({"looked": {"n": CANARY}}, Outer, "field looked does not fit (KeyError)"),
        ({"private": CANARY}, Outer, "field private is not int"),
        ({"a": 1, "tags": {CANARY: {}}}, Plain, "Plain: field tags[...].x is missing"),
        ([{"item": CANARY}], list[Box[int]], "list[Box[int]]: field [0].item is not int"),
        ({"b": CANARY}, Typing, "Typing: field a is missing"),
        ({CANARY: 1}, dict[int, int], "dict[int, int]: field [...] is not int"),
        ({"value": 0, "next": {"value": CANARY}}, Node, "Node: field next.value is not int"),
        ({"x": CANARY}, Point | dict[str, int], "field x is not int"),
    ],
    ids=str,
)
def test_an_error_names_the_path_of_a_field(body: Any, kind: Any, told: str) -> None:
    """As it is called in the body, through classes, unions, lists and dicts, and without anything of the body."""
    with pytest.raises(DecodeError) as caught:
        structure(body, kind)
    assert told in str(caught.value)
    text = "".join(traceback.format_exception(caught.value))
    assert CANARY not in text and "77" not in str(caught.value)


def test_an_error_stays_short() -> None:
    """A dead letter's header is no place for a fault of each of a thousand items, nor for a path of a thousand names."""
    with pytest.raises(DecodeError, match=r"field \[4\] is not int; and more$"):
        structure(["x"] * 1_000, list[int])
    with pytest.raises(DecodeError, match="nested too deeply") as caught:
        structure(deep(3_000), Node)
    assert len(str(caught.value)) < 300


def test_no_depth_is_an_error_of_another_kind() -> None:
    """Whatever the stack has left, a body that is nested too deeply is a body that cannot be decoded."""
    for levels in range(250, 1_000, 50):
        try:
            structure(deep(levels), Node)
        except DecodeError as error:
            assert "nested too deeply" in str(error)


@attrs.frozen
class Everything:
    id: uuid.UUID
    at: datetime
    day: date
    hour: time
    amount: Decimal
    raw: bytes
    colour: Colour
    level: Level
    pair: Pair
    some: frozenset[str]
    by_number: dict[int, str]
    how: Card | Bank | None
    maybe: date | None
    _hidden: int


everything = st.builds(
    Everything,
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
    st.dates(),
    st.times(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.binary(),
    st.sampled_from(Colour),
    st.sampled_from(Level),
    st.builds(Pair, st.integers(-9, 9), st.text()),
    st.frozensets(st.text()),
    st.dictionaries(st.integers(-9, 9), st.text()),
    st.none() | st.builds(Card, st.just("card"), st.text()) | st.builds(Bank, st.just("bank"), st.text()),
    st.none() | st.dates(),
    hidden=st.integers(-9, 9),
)


@given(everything)
def test_what_process_returns_is_what_the_next_stage_reads(value: Everything) -> None:
    """Whatever a body can become, JSON writes as what becomes the same again."""
    assert structure(decode(encode(value)), Everything) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["a", "how", "node", "value"]), inner)
        ),
    )
)
def test_no_body_raises_anything_but_a_decode_error(body: Any) -> None:
    """NaN and integers of any size among it."""
    for kind in (
        Outer,
        Plain,
        Node,
        Card | Bank,
        list[Decimal],
        dict[int, float],
        Level,
        Typing,
        datetime | int,
    ):
        try:
            structure(body, kind)
        except DecodeError:
            pass


def test_strict_json_refuses_what_a_double_cannot_hold() -> None:
    """Python reads 1e999 as infinity; JSON has no such number."""
    with pytest.raises(DecodeError, match="past what a double can hold"):
        decode(b'{"a": 1e999}', STRICT_JSON)


def test_the_content_type_is_heard_by_typed_bodies_too() -> None:
    """A type comes after the codec that the header chose from the list."""
    read = message_decoder(Typed(ByContentType([JSON, TEXT]), int | str))
    assert read(Message(b"1")) == 1
    assert read(Message(b"1", headers=Headers([("content-type", "text/plain")]))) == "1"
    with pytest.raises(DecodeError, match="not allowed here"):
        read(Message(b"1", headers=Headers([("content-type", "application/x-python-pickle")])))


# Models that validate themselves ----------------------------------------------------------------------


def several(kind: Any) -> Any:
    """Return the type of a list of these, which are known when the test runs."""
    return list[kind]


@pytest.fixture(scope="module")
def struct() -> Any:
    """A struct of msgspec with another one within."""
    msgspec: Any = pytest.importorskip("msgspec")
    line = msgspec.defstruct("Line", [("sku", str), ("count", int)], forbid_unknown_fields=True)
    fields: list[Any] = [
        ("id", int),
        ("lines", several(line), []),
        ("tags", dict[str, int], {}),
        ("price", Decimal, Decimal(0)),
    ]
    return msgspec.defstruct("Order", [*fields, ("colour", Colour, Colour.RED)])


@pytest.fixture(scope="module")
def model() -> Any:
    """A model of pydantic with another one within, and a validator that quotes."""
    pydantic: Any = pytest.importorskip("pydantic")

    def check(_: Any, value: int) -> int:
        if value < 0:
            raise ValueError(f"{CANARY} {value}")
        return value

    line = pydantic.create_model("Line", sku=(str, ...), count=(int, ...), __config__={"extra": "forbid"})
    return pydantic.create_model(
        "Order",
        id=(int, ...),
        lines=(several(line), []),
        tags=(dict[str, int], {}),
        price=(Decimal, Decimal(0)),
        __validators__={"id_": pydantic.field_validator("id")(classmethod(check))},
    )


BAD = [
    ({}, "field id is missing"),
    ({"id": CANARY}, "field id "),
    ({"id": 1, "lines": [{"sku": "x", "count": 1}, {"sku": "y", "count": CANARY}]}, "field lines[1].count "),
    ({"id": 1, "lines": [{"sku": "x"}]}, "field lines[0].count is missing"),
    ({"id": 1, "lines": [{"sku": "x", "count": 1, CANARY: 1}]}, "field lines[0]"),
    ({"id": 1, "tags": {CANARY: "x"}}, "field tags[...] "),
    ([CANARY], "is not Order: it "),
]


@pytest.mark.parametrize("library", ["struct", "model"])
@pytest.mark.parametrize(("body", "told"), BAD, ids=[told for _, told in BAD])
def test_models_go_by_their_own_rules_and_errors_name_the_field(
    library: str, body: Any, told: str, request: pytest.FixtureRequest
) -> None:
    """Their texts quote values and keys, so only places and kinds are taken from them; inside attrs classes too."""
    kind = request.getfixturevalue(library)
    with pytest.raises(DecodeError) as alone:
        structure(body, kind)
    with pytest.raises(DecodeError) as within:
        structure([body], several(kind))
    assert told in str(alone.value)
    inside = f"field [0].{told[6:]}" if told.startswith("field ") else "field [0] "
    assert inside in str(within.value)
    assert CANARY not in "".join(map(str, (*traceback.format_exception(alone.value), within.value)))


def test_what_quotes_is_not_repeated(struct: Any, model: Any) -> None:
    """A validator of the user's own, and an enumeration."""
    for kind, body in ((model, {"id": -77}), (struct, {"id": 1, "colour": CANARY})):
        with pytest.raises(DecodeError) as caught:
            structure(body, kind)
        assert CANARY not in str(caught.value) and "77" not in str(caught.value)


@pytest.mark.parametrize("library", ["struct", "model"])
def test_models_come_back_as_they_went(library: str, request: pytest.FixtureRequest) -> None:
    """An output may be one."""
    kind = request.getfixturevalue(library)
    value = structure({"id": 1, "lines": [{"sku": "x", "count": 2}], "price": "1.10"}, kind)
    assert isinstance(value, kind)
    assert structure(decode(encode(Box([value]))), Box) == Box(decode(encode([value])))
    assert structure(decode(encode([value])), several(kind)) == [value]


def test_what_cannot_come_back_is_not_written() -> None:
    """A duration has no form in JSON that everybody reads."""
    with pytest.raises(WriteError, match="timedelta"):
        encode({"for": timedelta(1)})
