"""Components from options: attrs classes, functions and plain classes, and errors that name option, value and place."""

from typing import TYPE_CHECKING, Any, Literal

import attrs
import pytest

from pythia_core import ConfigError, Secret
from pythia_core.config.schema import build, options_of

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

CANARY = "canary-5f2c"


def _is_url(instance: object, attribute: object, value: str | None) -> None:
    if value is not None and "://" not in value:
        raise ValueError(f"{value} is no URL")


@attrs.frozen(kw_only=True)
class Consumer:
    stream: str
    block: float = 0.5
    start: Literal["first", "last"] = "first"
    password: Secret | None = None
    url: str | None = attrs.field(default=None, validator=_is_url)
    _hidden: int = attrs.field(default=1, alias="hidden")
    count: int = attrs.field(default=1, init=False)


class Plain:
    def __init__(self, per_second: float, *, burst: int = 1) -> None:
        self.per_second, self.burst = per_second, burst


class Bare:
    pass


def function(name: str, *, times: int = 1) -> tuple[str, int]:
    """Make something."""
    return name, times


@attrs.frozen
class Connected(Consumer):
    _wire: "Missing" = attrs.field(default=None, init=False)
    rate: float = attrs.field(default=1.0, kw_only=True)


@attrs.frozen
class Unreadable:
    field: "Missing"


def made(factory: Any, **options: Any) -> Any:
    """Build from options as a configuration file gives them."""
    return build(factory, options, what="source redis", origin="file p.toml [worker.source]")


def test_texts_become_what_an_attrs_class_asks_for() -> None:
    """Fields are options by their public names."""
    consumer = made(Consumer, stream="s", block="2", start="LAST", password=CANARY, hidden="3")
    assert consumer == Consumer(stream="s", block=2.0, start="last", password=Secret(CANARY), hidden=3)


def test_functions_and_plain_classes_have_options_too() -> None:
    """Their arguments are the schema."""
    assert made(function, name="x", times="2") == ("x", 2)
    plain = made(Plain, per_second="5")
    assert (plain.per_second, plain.burst) == (5.0, 1)
    assert isinstance(made(Bare), Bare)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"stream": "s", "blok": 1},
            "source redis has no option 'blok' (file p.toml [worker.source]); did you mean block?",
        ),
        ({"stream": "s", "count": 1}, "has no option 'count'"),
        ({}, "source redis needs stream (text; required) (file p.toml [worker.source])"),
        (
            {"stream": "s", "block": "soon"},
            "option block of source redis is soon (file p.toml [worker.source]); it must be a number",
        ),
        ({"stream": "s", "start": "middle"}, "it must be one of first, last"),
        ({"stream": "s", "password": [CANARY]}, "option password of source redis is **** "),
        ({"stream": "s", "url": f"u:{CANARY}@h"}, "refuses its options"),
        ({"stream": 5}, "it must be text"),
    ],
)
def test_an_error_names_the_option_its_value_and_its_place(options: dict[str, Any], told: str) -> None:
    """And what is allowed; a secret's value never."""
    with pytest.raises(ConfigError) as caught:
        made(Consumer, **options)
    assert told in str(caught.value)
    assert "password" not in options or CANARY not in str(caught.value)


def test_annotations_that_cannot_be_read_are_an_error() -> None:
    """A schema that exists only for type checkers is no schema."""
    with pytest.raises(ConfigError, match="Unreadable cannot be read from its annotations"):
        options_of(Unreadable)


def test_what_is_no_option_need_not_be_readable() -> None:
    """Private state may be annotated for type checkers only; inherited fields are options too."""
    options = options_of(Connected)
    assert "wire" not in options
    assert options["stream"].kind is str and options["rate"].kind is float
