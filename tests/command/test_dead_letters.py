"""`pythia dead-letters`: where it looks, what it shows, and what it says of a replay."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rich.console

from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer
from pythia_core.brokers.memory import broker as memory
from pythia_core.command import dead_letters as command
from pythia_core.dead_letters import looker
from tests.command.conftest import WORKER, Pythia

CANARY = "canary-5f2c"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBroker]:
    """The process's default broker, with four dead letters of three kinds, as the worker's file finds it."""
    made = MemoryBroker()
    monkeypatch.setitem(memory._default_brokers, "memory", made)
    monkeypatch.setattr(looker, "QUIET_SECONDS", 0.2)
    bury(made, b"1", error="builtins.ValueError", key="k")
    bury(made, b"2", error="httpx.ReadTimeout", position="18")
    bury(made, b"3", error="httpx.ReadTimeout", last_failure="2026-02-01T00:00:00+00:00")
    bury(
        made, b"4", error="pythia_core.engine.outcomes.MessageTooLarge", body_sha256="x", body_bytes="2000000"
    )
    yield made


def bury(broker: MemoryBroker, body: bytes, *, key: str | None = None, **more: str) -> None:
    """Write a dead letter."""
    said = {
        "source": "orders",
        "partition": "0",
        "position": "17",
        "error_message": f"redis://u:{CANARY}@h\x1b[31m is gone",
        "attempts": "8",
        "worker": "order-processor",
        "last_failure": "2026-01-31T12:00:00+00:00",
        **more,
    }
    headers = {f"pythia-{name.replace('_', '-')}": value for name, value in said.items()}
    broker.publish("orders.dlq", body, key=key, headers=headers)


def left(broker: MemoryBroker) -> list[bytes]:
    """Return the bodies of the letters that are not settled."""
    rules = MemoryConsumer("orders.dlq", broker=broker).rules
    return [record.value for record in broker.unsettled("orders.dlq", "dead-letters", rules)]


def sent(broker: MemoryBroker) -> list[bytes]:
    """Return the bodies of the messages that went back."""
    return [record.value for record in broker.records("orders")]


def test_a_list_shows_each_letter_and_takes_none(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """Why, when, from where, how often, by whom; without passwords and control characters."""
    done = pythia("dead-letters", "list", "orders.py")
    assert done.exit_code == 0, done.output
    first = next(line for line in done.output.splitlines() if "ValueError" in line)
    when = datetime(2026, 1, 31, 12, tzinfo=UTC).astimezone().isoformat(" ", "seconds")
    for told in (when, "ValueError: redis://u:****@h", "orders 0:17", " k ", " 8 ", "order-processor"):
        assert told in first
    assert "2,000,000, cut" in done.output
    assert "4 dead letters in orders.dlq" in done.output
    assert CANARY not in done.output and "\x1b" not in done.output
    assert left(broker) == [b"1", b"2", b"3", b"4"]


def test_a_list_is_an_object_a_line_for_programs(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """With all there is to know, but no bodies."""
    lines = pythia("dead-letters", "list", "orders.py", "--json").output.splitlines()
    assert len(lines) == 4
    assert json.loads(lines[0]) == {
        "source": "orders",
        "partition": "0",
        "position": "17",
        "id": "",
        "key": "k",
        "time": "2026-01-31T12:00:00+00:00",
        "error": "builtins.ValueError",
        "text": "redis://u:****@h\\x1b[31m is gone",
        "attempts": 8,
        "worker": "order-processor",
        "group": "",
        "size": 1,
        "reference": False,
    }


@pytest.mark.parametrize(
    ("filters", "bodies"),
    [
        (["--error", "ReadTimeout"], [b"2", b"3"]),
        (["--error", "httpx.*", "--limit", "1"], [b"2"]),
        (["--key", "k"], [b"1"]),
        (["--since", "2026-01-31T23:00+00:00"], [b"3"]),
        (["--since", "1s"], []),
        (["--limit", "2"], [b"1", b"2"]),
    ],
)
def test_filters_hold_for_both_commands(
    pythia: Pythia, worker: Path, broker: MemoryBroker, filters: list[str], bodies: list[bytes]
) -> None:
    """What is listed is what is replayed; the others stay."""
    shown = pythia("dead-letters", "list", "orders.py", "--json", *filters).output.splitlines()
    assert len(shown) == len(bodies)
    done = pythia("dead-letters", "replay", "orders.py", *filters)
    assert done.exit_code == 0, done.output
    assert sent(broker) == bodies
    assert left(broker) == [body for body in (b"1", b"2", b"3", b"4") if body not in bodies]


def test_a_long_list_says_that_there_is_more(
    pythia: Pythia, worker: Path, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is for people, so it has an end."""
    monkeypatch.setattr(command, "SHOWN", 3)
    output = pythia("dead-letters", "list", "orders.py").output
    assert "3 dead letters in orders.dlq; there are more: --limit shows them" in output
    assert "there are more" not in pythia("dead-letters", "list", "orders.py", "--limit", "4").output


def test_an_empty_place_is_said_to_be_empty(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """Good news."""
    done = pythia("dead-letters", "list", "orders.py", "--key", "nobody's")
    assert (done.exit_code, done.output) == (0, "✓ no dead letters in orders.dlq\n")


def test_a_replay_says_what_it_did(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """And exits 1 because of the reference, which it names."""
    done = pythia("dead-letters", "replay", "orders.py")
    assert done.exit_code == 1
    assert "orders 0:17: cannot be replayed: of its 2,000,000 bytes" in done.stderr
    assert "✗ 3 replayed from orders.dlq to orders in " in done.stdout
    assert "s; there stay 1 that cannot be replayed" in done.stdout
    assert (sent(broker), left(broker)) == ([b"1", b"2", b"3"], [b"4"])


def test_a_dry_run_writes_and_settles_nothing(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """It says what would be done."""
    done = pythia("dead-letters", "replay", "orders.py", "--dry-run", "--error", "ValueError")
    assert done.exit_code == 0
    assert "✓ 1 would be replayed from orders.dlq to orders" in done.stdout
    assert "there stay 3 not selected" in done.stdout
    assert (sent(broker), len(left(broker))) == ([], 4)


def test_a_replay_reports_json_for_programs(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """With every count and every fault."""
    done = pythia("dead-letters", "replay", "orders.py", "--json", "--rate", "1000")
    report = json.loads(done.stdout)
    assert report.pop("seconds") > 0
    assert report.pop("faults")[0].startswith("orders 0:17: cannot be replayed")
    assert report == {
        "from": "orders.dlq",
        "to": "orders",
        "replayed": 3,
        "unselected": 0,
        "foreign": {},
        "references": 1,
        "refused": 0,
        "interrupted": False,
    }


def test_a_terminal_shows_how_far_it_is(
    pythia: Pythia, worker: Path, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it works."""
    monkeypatch.setattr(rich.console.Console, "is_terminal", property(lambda self: True))
    monkeypatch.setenv("TERM", "xterm")
    assert "3 replayed, 4 seen" in pythia("dead-letters", "replay", "orders.py").stderr


def test_a_kind_of_source_will_do(pythia: Pythia, folder: Path, broker: MemoryBroker) -> None:
    """Where the worker's file is not at hand: the source as it is, not the place of its dead letters."""
    done = pythia("dead-letters", "replay", "memory", "topic=orders", "--error", "ValueError")
    assert done.exit_code == 0, done.output
    assert sent(broker) == [b"1"]


def test_a_place_of_its_own_is_named(pythia: Pythia, folder: Path, broker: MemoryBroker) -> None:
    """A worker whose dead letters go elsewhere: nobody knows how to read a sink."""
    text = WORKER.replace("batch_size=5", "dead_letter=MemoryProducer('graves')")
    (folder / "orders.py").write_text(text)
    broker.publish("graves", b"9", headers={"pythia-source": "orders"})
    done = pythia("dead-letters", "replay", "orders.py")
    assert done.exit_code == 1
    assert "they go to graves; say how to read them, by --place" in done.output
    assert pythia("dead-letters", "replay", "orders.py", "--place", "topic=graves").exit_code == 0
    assert sent(broker) == [b"9"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["orders.py", "topic=x"], "there is no source 'orders.py' that options could belong to"),
        (["memory"], "source memory needs topic"),
        (["memory", "topic"], "'topic' is not NAME=VALUE"),
        (["memory", "topic=orders.dlq"], "orders.dlq has no natural place for dead letters"),
        (["nowhere.py"], "there is no file"),
        (["orders.py", "--since", "soon"], "'soon' is no time"),
        (["orders.py", "--place", "tipoc=x"], "has no option 'tipoc'"),
        (["two.py"], "two.py has several workers, a, b: name one, two.py:A"),
    ],
)
@pytest.mark.parametrize("verb", ["list", "replay"])
def test_a_wrong_argument_is_told_with_what_there_is(
    pythia: Pythia, worker: Path, broker: MemoryBroker, verb: str, arguments: list[str], told: str
) -> None:
    """Before anything is touched."""
    two = WORKER.replace("OrderProcessor", "A") + WORKER.replace("OrderProcessor", "B")
    (worker.parent / "two.py").write_text(two)
    done = pythia("dead-letters", verb, *arguments)
    assert done.exit_code in (1, 2) and told in done.output
    assert "Traceback" not in done.output and len(left(broker)) == 4
