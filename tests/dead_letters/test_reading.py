"""Reading a dead letter: what it says of itself, and whom a selection wants."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pythia_core import ConfigError, Headers, Message
from pythia_core.brokers.memory import MemoryProducer
from pythia_core.dead_letters import DeadLetter, Selection, parse_since
from pythia_core.dead_letters.reading import original_headers
from pythia_core.engine.dead_letters import dead_letter
from pythia_core.engine.outcomes import Failure

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def letter(error: BaseException, *, reference: bool = False, key: str | bytes | None = "k") -> Message[bytes]:
    """Return what the engine writes, as it is read again."""
    original = Message[bytes](
        b"x" * 5000, key=key, headers=Headers([("h", "1"), ("h", None)]), id="i", partition=3, position=17
    )
    original._failure = Failure(8, NOW.timestamp() - 60, NOW.timestamp(), error)
    output = dead_letter(
        original, error, MemoryProducer("d"), source="orders", group="g", worker="w", reference=reference
    )
    assert not isinstance(output.headers, dict) and output.headers is not None
    return Message(output.value, key=output.key, headers=Headers(output.headers))  # type: ignore[arg-type]


def test_everything_the_engine_writes_is_read_again() -> None:
    """What one side writes the other understands."""
    read = DeadLetter.of(letter(ValueError("no\nsense")))
    assert read == DeadLetter(
        source="orders",
        partition="3",
        position="17",
        id="i",
        key="k",
        time=NOW,
        error="builtins.ValueError",
        text="no\\nsense",
        attempts=8,
        worker="w",
        group="g",
        size=5000,
        reference=False,
    )
    assert original_headers(letter(ValueError())) == [("h", "1"), ("h", None)]


def test_a_reference_is_known_and_has_its_original_size() -> None:
    """Though only the first 4,096 bytes are there."""
    read = DeadLetter.of(letter(ValueError(), reference=True))
    assert (read.reference, read.size) == (True, 5000)


@pytest.mark.parametrize(
    "value", [None, b"\xff", "", "9" * 5000, "-1", "1.5", "٣", "nonsense", "2026-13-01", "0001-01-01"]
)
def test_headers_of_strangers_never_raise(value: str | bytes | None) -> None:
    """Whoever can write to the place for dead letters can write anything."""
    names = ("source", "attempts", "last-failure", "error", "body-bytes", "body-sha256", "worker", "kept")
    read = DeadLetter.of(Message(b"x", headers=Headers([(f"pythia-{name}", value) for name in names])))
    assert read.attempts is None
    assert Selection(error="x*", key="y", since=NOW).wants(read) is False
    assert read.size == 1


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), True),
        (Selection(error="ValueError"), True),
        (Selection(error="builtins.ValueError"), True),
        (Selection(error="builtins.*"), True),
        (Selection(error="Value"), False),
        (Selection(error="valueerror"), False),
        (Selection(key="k"), True),
        (Selection(key="K"), False),
        (Selection(since=NOW), True),
        (Selection(since=NOW + timedelta(seconds=1)), False),
        (Selection(error="ValueError", key="other"), False),
    ],
)
def test_a_selection_wants_what_fits_all_of_it(selection: Selection, wanted: bool) -> None:
    """Class with or without its module, the very key, the last failure."""
    assert selection.wants(DeadLetter.of(letter(ValueError()))) is wanted


def test_a_letter_without_a_time_is_not_wanted_since_then() -> None:
    """It is not known to be young."""
    assert not Selection(since=NOW).wants(DeadLetter.of(Message(b"x")))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-30T10:00+02:00", datetime(2026, 1, 30, 10, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_times_are_ages_or_dates(text: str, moment: datetime) -> None:
    """As people say them."""
    assert parse_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "2", "h", "2w", "yesterday", "2026-02-30", "-2h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With what would be one."""
    with pytest.raises(ConfigError, match="such as 30m, 2h or 7d"):
        parse_since(text, NOW)
