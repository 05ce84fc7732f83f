"""`pythia send`: what goes out, what is said of lines that did not, and how it reads its input."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import attrs
import pytest

from pythia_core import Output, Sink, WriteError, WriteResult, plugins
from pythia_core.sending import Line, LineReader, send_lines
from tests.command.conftest import Pythia


@attrs.define(eq=False)
class Recorder(Sink):
    """A sink that keeps what it gets, refuses what says so, and breaks when told."""

    box: str = "box"
    breaks_at: int | None = None
    there: bool = True
    written: list[Output] = attrs.field(factory=list, init=False)
    writes: int = attrs.field(default=0, init=False)

    @property
    def name(self) -> str:
        return self.box

    async def check(self) -> None:
        if not self.there:
            raise WriteError(f"no {self.box}")

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        self.writes += 1
        if self.writes == self.breaks_at:
            raise ConnectionError("redis://u:canary-5f2c@h is gone")
        bad = {index: WriteError("too large") for index, out in enumerate(outputs) if b"bad" in out.value}
        self.written += [out for index, out in enumerate(outputs) if index not in bad]
        return WriteResult([index for index in range(len(outputs)) if index not in bad], bad)


class Given:
    """Lines of a test."""

    def __init__(self, *chunks: Sequence[bytes]) -> None:
        self.chunks, self.number = list(chunks), 0

    async def read(self) -> Sequence[Line]:
        chunk = self.chunks.pop(0) if self.chunks else []
        lines = [Line(self.number + index, raw) for index, raw in enumerate(chunk, 1)]
        self.number += len(chunk)
        return lines


async def test_lines_go_out_as_they_are_in_batches() -> None:
    """Bytes are not decoded and encoded again; a batch has its bound."""
    sink = Recorder()
    report = await send_lines(
        sink, Given([b'{"a":  1}', b"text", b"\xff"], [b"[]"]), batch=2, headers={"h": "v"}
    )
    assert [output.value for output in sink.written] == [b'{"a":  1}', b"text", b"\xff", b"[]"]
    assert sink.writes == 3
    assert all(output.headers == {"h": "v"} and output.sink is sink for output in sink.written)
    assert (report.sent, report.failed, report.not_json) == (4, 0, 2)


async def test_a_field_becomes_the_key() -> None:
    """Also within another; numbers are written out."""
    sink = Recorder()
    await send_lines(sink, Given([b'{"a":{"b":"x"}}', b'{"a":{"b":7}}']), key_field="a.b")
    assert [output.key for output in sink.written] == ["x", "7"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"text", "not JSON, so it has no field to take as the key"),
        (b"[" * 5000, "not JSON, so it has no field to take as the key"),
        (b'{"b":1}', "has no field 'a' to take as its key"),
        (b"[1]", "has no field 'a' to take as its key"),
        (b'{"a":1.5}', "is neither text nor a whole number"),
        (b'{"a":true}', "is neither text nor a whole number"),
    ],
)
async def test_a_line_without_its_key_is_not_sent(line: bytes, why: str) -> None:
    """The others are."""
    sink = Recorder()
    report = await send_lines(sink, Given([b'{"a":"x"}', line]), key_field="a")
    assert (report.sent, report.failed) == (1, 1)
    assert str(report.faults[0]).startswith("line 2: ") and why in str(report.faults[0])


async def test_what_the_sink_refuses_is_told_by_line() -> None:
    """Neighbours with one reason are told together."""
    report = await send_lines(Recorder(), Given([b"1", b"bad", b"bad", b"4", b"bad"]))
    assert [str(fault) for fault in report.faults] == ["lines 2 to 3: too large", "line 5: too large"]
    assert (report.sent, report.failed) == (2, 3)


async def test_a_write_that_raises_ends_the_sending() -> None:
    """Its lines may have arrived or not; nothing after them is sent."""
    sink = Recorder(breaks_at=2)
    report = await send_lines(sink, Given([b"1", b"2", b"3", b"4", b"5"]), batch=2)
    assert (report.sent, report.failed, report.stopped_after) == (2, 2, 4)
    assert "lines 3 to 4: the outcome is unknown: ConnectionError" in str(report.faults[0])


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `send` know the recording sink."""
    registry = plugins.Registry(sinks={"recorder": Recorder})
    monkeypatch.setattr(plugins, "load", lambda environ: registry)


@pytest.mark.usefixtures("recorder")
def test_a_summary_says_how_many_and_where(pythia: Pythia) -> None:
    """Exit code 0 when all were confirmed; empty lines are left out, a last line needs no end."""
    done = pythia("send", "recorder", "box=red", input='{"a":1}\r\n\n{"a":2}')
    assert (done.exit_code, done.stdout) == (0, "✓ 2 sent to recorder red in 0.0 s\n")


@pytest.mark.usefixtures("recorder")
def test_failures_exit_1_and_name_their_lines(pythia: Pythia) -> None:
    """On standard error, numbered as the input's lines are, the empty ones counted."""
    done = pythia("send", "recorder", input="1\n\nbad\n")
    assert done.exit_code == 1
    assert "line 3: too large" in done.stderr
    assert "✗ 1 sent to recorder box in 0.0 s, 1 failed" in done.stdout


@pytest.mark.usefixtures("recorder")
def test_a_place_that_is_not_there_is_told_before_a_line_is_read(pythia: Pythia) -> None:
    """By the sink's own check, which is a worker's too."""
    done = pythia("send", "recorder", "there=false", input="1\n")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no box" in done.stderr


@pytest.mark.usefixtures("recorder")
def test_a_broken_connection_says_where_it_stopped(pythia: Pythia) -> None:
    """Without the password in its address."""
    done = pythia("send", "recorder", "breaks_at=1", "--batch", "2", input="1\n2\n3\n")
    assert done.exit_code == 1
    assert "stopped after line 2" in done.stderr
    assert "redis://u:****@h is gone" in done.stderr and "canary" not in done.stderr


@pytest.mark.usefixtures("recorder")
def test_the_report_is_json_for_programs(pythia: Pythia) -> None:
    """With all faults."""
    done = pythia("send", "recorder", "--json", input="1\nbad\nx\n")
    report = json.loads(done.stdout)
    report.pop("seconds")
    assert report == {
        "sink": "recorder box",
        "sent": 2,
        "failed": 1,
        "not_json": 2,
        "faults": [{"first": 2, "last": 2, "why": "too large"}],
        "stopped_after": None,
    }


@pytest.mark.usefixtures("recorder")
def test_lines_that_are_not_json_are_warned_of(pythia: Pythia) -> None:
    """A worker with the default codec would dead-letter them."""
    assert "not JSON: 1 of them" in pythia("send", "recorder", input="hello\n1\n").stderr


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recoder"], "there is no sink 'recoder'; did you mean recorder?"),
        (["recorder", "bax=red"], "sink recorder has no option 'bax' (command line); did you mean box?"),
        (
            ["recorder", "breaks_at=x"],
            "option breaks_at of sink recorder is x (command line); it must be a whole number or none",
        ),
        (["recorder", "bax=red"], "Options of sink recorder:\n  box (text)"),
        (["recorder", "red"], "'red' is not NAME=VALUE"),
        (["recorder", "--header", "x"], "'x' is not NAME=VALUE"),
    ],
)
def test_a_wrong_argument_is_told_with_what_there_is(pythia: Pythia, arguments: list[str], told: str) -> None:
    """Kinds, options and their types."""
    done = pythia("send", *arguments, input="x\n")
    assert done.exit_code in (1, 2) and told in done.output


async def read_all(reader: LineReader) -> list[tuple[int, bytes]]:
    """Return every line with its number."""
    lines: list[tuple[int, bytes]] = []
    while found := await reader.read():
        lines += [(line.number, line.raw) for line in found]
    return lines


async def test_a_file_is_read_whole_and_its_size_known(tmp_path: Path) -> None:
    """Lines across chunks are put together."""
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"%d %s\n" % (number, b"x" * 5000) for number in range(200)))
    with path.open("rb") as stream:
        reader = LineReader(stream)
        assert reader.size == path.stat().st_size
        lines = await read_all(reader)
        assert reader.consumed == reader.size
    assert [raw.split()[0] for _, raw in lines] == [b"%d" % number for number in range(200)]


async def test_a_pipe_is_read_as_it_comes() -> None:
    """What is there is handed on before the next line comes, and half a line waits for its end."""
    read, write = os.pipe()
    os.write(write, b"one\ntw")
    with os.fdopen(read, "rb") as stream:
        reader = LineReader(stream)
        assert [line.raw for line in await reader.read()] == [b"one"]
        assert reader.size is None
        writer = threading.Thread(target=_finish, args=(write,))
        writer.start()
        assert await read_all(reader) == [(2, b"two"), (3, b"end")]
        writer.join()


def _finish(write: int) -> None:
    os.write(write, b"o\nend")
    os.close(write)


async def test_waiting_for_a_pipe_blocks_nobody() -> None:
    """The sink's connection lives on the same loop, and has heartbeats to send."""
    read, write = os.pipe()
    last_resort = threading.Timer(2, os.close, args=(write,))
    last_resort.start()
    with os.fdopen(read, "rb") as stream:
        with anyio.move_on_after(0.05) as scope:
            await LineReader(stream).read()
        assert scope.cancelled_caught
    last_resort.cancel()
    last_resort.join()
    os.close(write)


async def test_the_line_ends_of_windows_are_no_part_of_a_line(tmp_path: Path) -> None:
    """Nor is an empty one of them a line."""
    (tmp_path / "lines").write_bytes(b"1\r\n\r\n2\r\n")
    with (tmp_path / "lines").open("rb") as stream:
        assert await read_all(LineReader(stream)) == [(1, b"1"), (3, b"2")]


async def test_nothing_to_read_is_no_line() -> None:
    """/dev/null can be neither waited for nor measured."""
    with open(os.devnull, "rb") as stream:
        assert await read_all(LineReader(stream)) == []


def test_the_command_reads_a_slow_pipe(tmp_path: Path) -> None:
    """The whole of it in a process of its own: lines typed slowly, an end, a summary."""
    script = "from pythia_core.command import main; main(prog_name='pythia')"
    environ = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path), "PYTHIA_PLUGINS": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", script, "send", "memory", "topic=x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )
    assert process.stdin is not None
    for number in range(3):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output.startswith("✓ 3 sent to memory x")
