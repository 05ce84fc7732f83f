"""Values: the same setting from a text, from TOML and from code is the same value, and a misfit is told in words."""

import enum
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import CODECS, JSON, Codec, Secret
from pythia_core.config.showing import show
from pythia_core.config.values import Unfit, convert, describe

CANARY = "canary-5f2c"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Tls:
    ca: Path
    verify: bool = True


@pytest.mark.parametrize(
    ("value", "kind", "result"),
    [
        ("20", int, 20),
        (20, int, 20),
        ("1_000", int, 1000),
        ("2.5", float, 2.5),
        (2, float, 2.0),
        ("yes", bool, True),
        ("Off", bool, False),
        (True, bool, True),
        ("x", str, "x"),
        ("x", bytes, b"x"),
        ("/run", Path, Path("/run")),
        ("none", int | None, None),
        (None, int | None, None),
        ("3", int | None, 3),
        ("none", str | None, "none"),
        ("none", Literal["key", "none"] | None, "none"),
        ("KEY", Literal["key", "none"], "key"),
        ("2", Literal[1, 2], 2),
        ("5", int | str, 5),
        ("x", int | str, "x"),
        ("a, b", list[str], ["a", "b"]),
        (["1", 2], tuple[int, ...], (1, 2)),
        ("1,x", tuple[int, str], (1, "x")),
        ("a,b", Sequence[str], ("a", "b")),
        ("a,a", set[str], {"a"}),
        ("a,a", frozenset[str], frozenset({"a"})),
        ({"a": "1"}, Mapping[str, int], {"a": 1}),
        ("red", Colour, Colour.RED),
        ("BLUE", Colour, Colour.BLUE),
        ({"ca": "/ca", "verify": "no"}, Tls, Tls(Path("/ca"), verify=False)),
        (
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            uuid.UUID,
            uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ),
        ("3", Annotated[int, "meta"], 3),
        ("json", Codec, JSON),
        (object, Any, object),
    ],
)
def test_a_value_becomes_what_its_type_asks_for(value: Any, kind: Any, result: Any) -> None:
    """Texts and typed values of every type that a setting may have."""
    converted = convert(value, kind)
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("value", "kind", "allowed"),
    [
        ("many", int, "a whole number"),
        (True, int, "a whole number"),
        (3.7, int, "a whole number"),
        ("3.7", int, "a whole number"),
        ("nan", float, "a number"),
        ("inf", float, "a number"),
        (True, float, "a number"),
        ("maybe", bool, "true or false"),
        (1, bool, "true or false"),
        (1, str, "text"),
        ("x", int | None, "a whole number or none"),
        ("keys", Literal["key", "none"] | None, "one of key, none"),
        ("green", Colour, "one of red, blue"),
        ("1,x", list[int], "a list of items, each a whole number"),
        ("x", Tls, "a table of ca, verify"),
        ({"ca": "/ca", "verfy": "no"}, Tls, "a table of ca, verify"),
        ("x", Mapping[str, int], "a table"),
        ("x", type(enum), "given in code"),
        ({"path": "x"}, Secret, '{ file = "PATH" }'),
        ("yaml", Codec, "one of json"),
        (1, type(None), "none"),
    ],
)
def test_a_misfit_is_told_by_what_is_allowed(value: Any, kind: Any, allowed: str) -> None:
    """The error says in words what would fit; the value is for the caller to show."""
    with pytest.raises(Unfit) as caught:
        convert(value, kind)
    assert allowed in str(caught.value)


scalars = st.sampled_from([bool, int, float, str, bytes, Secret, Path, Colour, Tls, type(None), Codec])
kinds = st.recursive(
    scalars,
    lambda inner: inner.map(lambda kind: kind | None) | inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
)
told = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(told, kinds)
def test_whatever_is_told_fits_or_is_unfit(value: Any, kind: Any) -> None:
    """No value and type make anything but Unfit, and every type can be described."""
    assert describe(kind)
    try:
        convert(value, kind)
    except Unfit:
        pass


def test_a_secret_comes_from_text_file_or_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration file need not hold the secret itself."""
    (tmp_path / "pw").write_text("of file\n")
    monkeypatch.setenv("TEST_PW", "of environment")
    assert convert("itself", Secret).reveal() == "itself"
    assert convert({"file": str(tmp_path / "pw")}, Secret).reveal() == "of file"
    assert convert({"env": "TEST_PW"}, Secret | None).reveal() == "of environment"


@attrs.frozen
class Consumer:
    stream: str
    url: str = "redis://localhost"
    password: Secret | None = None
    codec: Any = JSON
    brokers: list[str] = attrs.field(factory=list)
    made: str = attrs.field(default="x", init=False)


def test_what_is_shown_has_no_secret_and_no_defaults() -> None:
    """Of a source: its class, what differs from the defaults, passwords masked."""
    shown = show(Consumer("orders", url=f"redis://u:{CANARY}@h/0", password=Secret(CANARY)))
    assert shown == "Consumer(stream='orders', url='redis://u:****@h/0', password=****)"
    assert show(Consumer("orders")) == "Consumer(stream='orders')"
    assert show(CANARY, Secret | None) == "****"
    assert show(None, Secret | None) == "None"
    assert show(f"redis://u:{CANARY}@h/0") == "redis://u:****@h/0"


def test_every_codec_can_be_named() -> None:
    """The names that configuration uses are the codecs' own."""
    assert {convert(name, Codec).name for name in CODECS} == set(CODECS)
