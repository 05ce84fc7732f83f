"""The examples: each is run as its own first lines say, on a real broker where it names one."""

import configparser
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis

from pythia_core import Settings
from pythia_core.command.run import command as run
from pythia_core.supervisor.fleet import KILL_GRACE
from tests.servers.kafka import KafkaServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PYTHIA = Path(sys.executable).with_name("pythia")


class Running:
    """An example at work, and what it has printed."""

    def __init__(self, output: Path) -> None:
        self._output = output

    @property
    def text(self) -> str:
        """Everything it has printed."""
        return self._output.read_text()

    def says(self, *lines: str) -> None:
        """Wait until it has printed these lines."""
        wait_until(lambda: all(line in self.text for line in lines), f"it said {lines}", seconds=30)


@contextmanager
def running(name: str, tmp_path: Path, environ: Mapping[str, str]) -> Iterator[Running]:
    """Run an example by the command; in the end it has to drain and exit cleanly."""
    output, errors = tmp_path / "output", tmp_path / "errors"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [PYTHIA, "run", ROOT / "examples" / name],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environ},
        )
    try:
        yield Running(output)
        process.terminate()
        assert process.wait(30) == 0, errors.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def send(stream: str, *lines: str, url: str) -> None:
    """Send lines to a stream by the command."""
    command("send", "redis", f"stream={stream}", lines=lines, environ={"REDIS_URL": url})


def command(*arguments: str, lines: Sequence[str] = (), environ: Mapping[str, str]) -> None:
    """Run the command."""
    subprocess.run(
        [PYTHIA, *arguments],
        input="\n".join(lines),
        text=True,
        check=True,
        capture_output=True,
        env={**os.environ, **environ},
    )


def test_orders(redis_server: RedisServer, tmp_path: Path) -> None:
    """One order is done, one rejected, one skipped, and one done at its second attempt."""
    client = redis.Redis(port=redis_server.port)
    with running("orders.py", tmp_path, {"REDIS_URL": redis_server.url}) as example:
        send(
            "orders",
            '{"id": 1, "amount": 5}',
            '{"id": 2, "amount": 0}',
            '{"id": 3, "amount": 5, "test": true}',
            '{"id": 4, "amount": 5, "not_before_attempt": 2}',
            url=redis_server.url,
        )
        example.says("order 1 done at attempt 1", "order 4 done at attempt 2")
        wait_until(lambda: client.xlen("orders:dlq") == 1, "order 2 is a dead letter")
    letters: Any = client.xrange("orders:dlq")
    ((_, fields),) = letters
    assert b"an amount of 0" in b" ".join(fields.values())
    assert "order 3" not in example.text
    assert client.xpending("orders", "order-processor")["pending"] == 0


def test_fan_out(redis_server: RedisServer, tmp_path: Path) -> None:
    """One event becomes a bill and as many parcels as it says, and is settled after them."""
    client = redis.Redis(port=redis_server.port)
    event = '{"id": 7, "amount": 5, "parcels": 3, "customer": "c1"}'
    with running("fan_out.py", tmp_path, {"REDIS_URL": redis_server.url}):
        send("events", event, url=redis_server.url)
        wait_until(lambda: client.xlen("shipping") == 3, "three parcels are on their way")
        wait_until(lambda: client.xlen("billing") == 1, "one bill is written")
        wait_until(lambda: client.xpending("events", "fan-out")["pending"] == 0, "the event is settled")


def test_pipeline(kafka_server: KafkaServer, tmp_path: Path) -> None:
    """What is valid goes on with its key, the rest is a dead letter."""
    for topic in ("raw-data", "validated-data"):
        kafka_server.tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", topic)
    environ = {"KAFKA_BOOTSTRAP_SERVERS": kafka_server.address}
    readings = '{"sensor": "s1", "celsius": 20}\n{"sensor": "s2", "celsius": 999}\n'
    with running("pipeline.py", tmp_path, environ):
        subprocess.run(
            [PYTHIA, "send", "kafka", "topic=raw-data", "--key-field", "sensor"],
            input=readings,
            text=True,
            check=True,
            capture_output=True,
            env={**os.environ, **environ},
        )
        consume = (
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            "--from-beginning",
            "--max-messages",
            "1",
        )
        with_key = ("--formatter-property", "print.key=true", "--timeout-ms", "30000")
        valid = kafka_server.tool(*consume, *with_key, "--topic", "validated-data")
        wait_until(lambda: "raw-data.dlq" in topics(kafka_server), "dead letters have a place", seconds=30)
        dead = kafka_server.tool(*consume, *with_key, "--topic", "raw-data.dlq")
    assert valid.split("\t") == ["s1", '{"sensor":"s1","celsius":20,"fahrenheit":68.0}\n']
    assert dead.split("\t") == ["s2", '{"sensor": "s2", "celsius": 999}\n']


def topics(server: KafkaServer) -> str:
    """Return the names of all topics."""
    return server.tool("org.apache.kafka.tools.TopicCommand", "--list")


def test_tasks(rabbitmq_server: RabbitServer, tmp_path: Path) -> None:
    """Each task has one result, and nothing is left in the queue."""
    environ = {"RABBITMQ_URL": rabbitmq_server.url}
    ready = rabbitmq_server.ready

    with running("tasks.py", tmp_path, environ):
        wait_until(lambda: None not in (ready("tasks"), ready("results")), "the queues were made", seconds=30)
        command(
            "send", "rabbitmq", "queue=tasks", lines=[f'{{"id": {n}}}' for n in range(50)], environ=environ
        )
        wait_until(lambda: ready("results") == 50, "all results were written", seconds=30)
    assert ready("tasks") == 0


def test_retries(tmp_path: Path) -> None:
    """Four payments are done, one of them at its second attempt, and the fifth is a dead letter after three."""
    with running("retries.py", tmp_path, {}) as example:
        example.says(
            *(f"payment {number} done at attempt 1" for number in (1, 2, 5)),
            "payment 4 done at attempt 2",
            "payment 3 is dead: the card is refused, 3 attempts",
        )


def test_heavy(tmp_path: Path) -> None:
    """The crash fails one message; its neighbours get their numbers."""
    with running("heavy.py", tmp_path, {}) as example:
        example.says("1229 primes below 10000", "2262 primes below 20000")


def test_middleware(tmp_path: Path) -> None:
    """The middleware sees how long the handler took, and speaks of the slow one only."""
    with running("middleware.py", tmp_path, {}) as example:
        example.says("quick chore done", "slow chore done", "slow chore took 0.3 s")
    assert "quick chore took" not in example.text


class Envelopes(BaseHTTPRequestHandler):
    """Takes what Sentry's client sends."""

    received: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        """Keep it, unpacked."""
        body = self.rfile.read(int(self.headers["content-length"]))
        packed = self.headers["content-encoding"] == "gzip"
        self.received.append(gzip.decompress(body) if packed else body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def errors_received() -> list[bytes]:
    """Return what came about the bad invoice."""
    return [each for each in Envelopes.received if b"ValueError" in each]


def test_errors(tmp_path: Path) -> None:
    """Both attempts at the bad invoice are reported once, with their numbers, and no body is."""
    Envelopes.received.clear()
    with HTTPServer(("127.0.0.1", 0), Envelopes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dsn = f"http://key@127.0.0.1:{server.server_port}/1"
        with running("errors.py", tmp_path, {"SENTRY_DSN": dsn}) as example:
            example.says("10.00 paid")
            wait_until(lambda: len(errors_received()) >= 2, "both came", seconds=30)
        server.shutdown()
    assert len(errors_received()) == 2
    sent = b"".join(Envelopes.received)
    assert b'"attempt":"1"' in sent.replace(b" ", b"") and b'"attempt":"2"' in sent.replace(b" ", b"")
    assert b"could not convert string to float" in sent


def test_the_unit_for_systemd() -> None:
    """It waits for a drain, stops the supervisor alone, and its command is one that there is."""
    path = ROOT / "examples" / "deploy" / "pythia.service"
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    service = unit["Service"]
    assert float(service["TimeoutStopSec"]) >= Settings().drain_timeout + KILL_GRACE
    assert service["KillMode"] == "mixed"
    _, _, *arguments = service["ExecStart"].split()
    with run.make_context("run", arguments) as context:
        assert context.params["control"] == "/run/pythia/control.sock"
    assert "HUP" in service["ExecReload"]
    if analyze := shutil.which("systemd-analyze"):
        copy = path.read_text().replace(service["ExecStart"].split()[0], sys.executable)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / path.name).write_text(copy)
            done = subprocess.run(
                [analyze, "verify", str(Path(folder) / path.name)],
                check=False,
                capture_output=True,
                text=True,
            )
        assert path.name not in done.stderr, done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_each_example_passes_the_check(path: Path) -> None:
    """What users copy is good to run, by our own standard."""
    result = subprocess.run([PYTHIA, "check", path], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_example_is_tested_and_listed() -> None:
    """None is forgotten here or in the list for readers."""
    names = {path.name for path in EXAMPLES}
    listed = set(re.findall(r"\[(\w+\.py)\]", (ROOT / "examples" / "README.md").read_text()))
    tested = {f"{name[5:]}.py" for name in globals() if name.startswith("test_")}
    assert listed == names
    assert names <= tested
