"""`pythia offsets`: what it shows, that it asks before it moves, and that it says what a move would mean."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result

from pythia_core.brokers.memory import Member, MemoryBroker, MemoryConsumer
from pythia_core.brokers.memory import broker as memory
from pythia_core.command import offsets as command
from tests.command.conftest import WORKER, Pythia
from tests.memory.owner import Recorder
from tests.servers.redis import RedisServer
from tests.servers.server import free_port

GROUP = "order-processor"
JANUARY = 1_767_225_600.0  # 2026-01-01T00:00:00Z
RULES = MemoryConsumer("orders", ack="cumulative").rules


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBroker]:
    """The process's default broker: two partitions with ten messages each, one a minute, of which 6 and 0 are committed."""
    made = MemoryBroker(partitions=2)
    monkeypatch.setitem(memory._default_brokers, "memory", made)
    for number in range(20):
        made.publish("orders", number, partition=number % 2, timestamp=JANUARY + 60 * (number // 2))
    group = made.group("orders", GROUP, RULES)
    group.move(0, 6)
    yield made


@pytest.fixture
def worker(folder: Path) -> Path:
    """A worker that reads the topic as a log."""
    path = folder / "orders.py"
    path.write_text(WORKER.replace('MemoryConsumer("orders")', 'MemoryConsumer("orders", ack="cumulative")'))
    return path


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """The bare client library, on the shared server."""
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


def committed(broker: MemoryBroker) -> list[int]:
    """Return how far the group has got."""
    return [broker.committed("orders", GROUP, partition) for partition in (0, 1)]


def told(done: Result) -> Any:
    """Return what was printed for programs."""
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_show_tells_where_each_partition_is(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """Position, what is there, what waits; and that nobody reads."""
    done = pythia("offsets", "show", "orders.py")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert ["0", "6", "0", "10", "4"] == rows[1][:5]
    assert ["1", "0", "0", "10", "10"] == rows[2][:5]
    assert f"group {GROUP} of orders" in done.output
    assert "nobody reads as this group now" in done.output


def test_show_tells_programs_the_same(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """And the time of the oldest that waits as a number."""
    found = told(pythia("offsets", "show", "orders.py:OrderProcessor", "--json"))
    assert (found["source"], found["group"], found["members"]) == ("orders", GROUP, [])
    assert found["partitions"]["0"] == {
        "position": "6",
        "first": "0",
        "end": "10",
        "waiting": 4,
        "at_least": False,
        "pending": None,
        "oldest": JANUARY + 360,
    }


def test_nothing_moves_without_a_yes(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """A pipe cannot be asked, so the plan is all that comes."""
    done = pythia("offsets", "reset", "orders.py", "--to", "earliest")
    assert done.exit_code == 0, done.output
    assert "6 read again" in done.output and "nothing was changed; --yes does it" in done.output
    assert committed(broker) == [6, 0]
    assert told(pythia("offsets", "reset", "orders.py", "--to", "latest", "--json"))["moved"] is False
    assert committed(broker) == [6, 0]


@pytest.mark.parametrize(("answer", "after"), [("y", [0, 0]), ("n", [6, 0]), ("", [6, 0])])
def test_a_terminal_is_asked(
    pythia: Pythia,
    worker: Path,
    broker: MemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    after: list[int],
) -> None:
    """Whatever is not a yes is a no."""
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    pythia("offsets", "reset", "orders.py", "--to", "earliest", input=f"{answer}\n")
    assert committed(broker) == after


@pytest.mark.parametrize(
    ("where", "after"),
    [
        (("--to", "earliest"), [0, 0]),
        (("--to", "latest"), [10, 10]),
        (("--to", "3"), [3, 3]),
        (("--to", "3", "--partition", "1"), [6, 3]),
        (("--by", "-2"), [4, 0]),
        (("--by", "7"), [10, 7]),
        (("--since", "2026-01-01T00:04:30+00:00"), [5, 5]),
        (("--since", "0s"), [10, 10]),
    ],
)
def test_reset_goes_where_it_is_told(
    pythia: Pythia, worker: Path, broker: MemoryBroker, where: tuple[str, ...], after: list[int]
) -> None:
    """Back and forward, to a place, by a number, to a time; never past what is there."""
    done = told(pythia("offsets", "reset", "orders.py", *where, "--yes", "--json"))
    assert done["moved"] is True
    assert committed(broker) == after
    assert [done["after"][name] for name in ("0", "1")] == [str(offset) for offset in after]


def test_a_plan_says_what_is_read_again_and_what_never(
    pythia: Pythia, worker: Path, broker: MemoryBroker
) -> None:
    """So that nobody skips messages unawares."""
    moves = told(pythia("offsets", "reset", "orders.py", "--to", "4", "--json"))["moves"]
    assert moves["0"] == {"from": "6", "to": "4", "again": 2, "at_least": False}
    assert moves["1"] == {"from": "0", "to": "4", "again": -4, "at_least": False}
    assert "4 never read" in pythia("offsets", "reset", "orders.py", "--to", "4").output


def test_replay_never_goes_forward(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """A partition that has not been read so far stays, or messages of it would never be read."""
    done = told(
        pythia("offsets", "replay", "orders.py", "--since", "2026-01-01T00:02:00+00:00", "--yes", "--json")
    )
    assert list(done["moves"]) == ["0"]
    assert committed(broker) == [2, 0]


def test_replay_of_nothing_says_so(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """And asks nothing."""
    done = pythia("offsets", "replay", "orders.py", "--since", "1h", "--yes")
    assert done.exit_code == 0 and f"group {GROUP} stays where it is" in done.output


def test_a_group_that_is_read_is_left_alone(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """A member would go on from where it is and commit that."""
    broker.group("orders", GROUP, RULES).join(Member("someone", Recorder()), 0.0)
    assert "read by someone" in pythia("offsets", "show", "orders.py").output
    done = pythia("offsets", "reset", "orders.py", "--to", "earliest", "--yes")
    assert done.exit_code == 1 and "stop them first" in done.output
    assert committed(broker) == [6, 0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of --to, --since and --by"),
        (("--to", "3", "--by", "1"), "one of --to, --since and --by"),
        (("--to", "11"), "has no offset '11', only 0 to 10"),
        (("--to", "newest"), "has no offset 'newest'"),
        (("--to", "1", "--partition", "7"), "orders has no partition 7; there are: 0, 1"),
        (("--since", "yesterday"), "'yesterday' is no time"),
    ],
)
def test_what_cannot_be_is_told(
    pythia: Pythia, worker: Path, broker: MemoryBroker, arguments: tuple[str, ...], said: str
) -> None:
    """With what there is instead."""
    done = pythia("offsets", "reset", "orders.py", *arguments, "--yes")
    assert done.exit_code != 0 and said in done.output
    assert committed(broker) == [6, 0]


def test_several_workers_have_to_be_told_apart(pythia: Pythia, worker: Path, broker: MemoryBroker) -> None:
    """Each has a group of its own."""
    worker.write_text(
        worker.read_text().replace("if __name__", "class Other(OrderProcessor): ...\n\n\nif __name__")
    )
    done = pythia("offsets", "show", "orders.py")
    assert done.exit_code == 1 and "has several workers" in done.output


def test_a_source_without_positions_says_so(pythia: Pythia, folder: Path) -> None:
    """By its class and by what it reads."""
    (folder / "numbers.py").write_text(
        "from pythia_core import Source, Worker\n\n\n"
        "class Numbers(Source):\n    name = 'numbers'\n    async def subscribe(self, owner): ...\n\n\n"
        "class Counter(Worker):\n    source = Numbers()\n    async def process(self, message): ...\n"
    )
    done = pythia("offsets", "show", "numbers.py")
    assert done.exit_code == 1 and "Numbers keeps no positions" in done.output


def test_a_group_on_a_real_broker_is_replayed_by_its_worker_s_file(
    pythia: Pythia, folder: Path, redis_server: RedisServer, client: redis.Redis
) -> None:
    """The file names server, stream and group, and nothing else is needed."""
    (folder / "events.py").write_text(
        "from pythia_core import Worker\nfrom pythia_redis import RedisStreamsConsumer\n\n\n"
        f"class Events(Worker):\n    source = RedisStreamsConsumer('events', url={redis_server.url!r})\n"
        "    async def process(self, message): ...\n"
    )
    ids = [str(client.xadd("events", {"body": "1"})) for _ in range(4)]
    client.xgroup_create("events", "events", ids[3])
    done = pythia("offsets", "replay", "events.py", "--since", "1h", "--yes")
    assert done.exit_code == 0 and "4 read again" in done.output, done.output
    assert client.xinfo_groups("events")[0]["last-delivered-id"] == "0-0"
    assert told(pythia("offsets", "show", "events.py", "--json"))["partitions"]["events"]["waiting"] == 4


def test_a_broker_that_is_away_is_one_line(pythia: Pythia, folder: Path) -> None:
    """And no traceback."""
    (folder / "events.py").write_text(
        "from pythia_core import Worker\nfrom pythia_redis import RedisStreamsConsumer\n\n\n"
        f"class Events(Worker):\n    source = RedisStreamsConsumer('events', url='redis://localhost:{free_port()}')\n"
        "    async def process(self, message): ...\n"
    )
    done = pythia("offsets", "show", "events.py")
    assert done.exit_code == 1 and done.output.startswith("Error: Redis at localhost:")
