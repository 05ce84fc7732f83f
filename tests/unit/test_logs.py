"""Logs: their two formats, that no stranger's text forges a line, and that they never raise."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import Secret, logs

CANARY = "canary-5f2c"


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Put back what a set-up changes for the whole process."""
    loggers = [logging.getLogger(name) for name in ("", *logs.OWN)]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
    bare_root()


def bare_root() -> None:
    """Take all handlers off the root logger, pytest's among them, which come back with each phase of a test.

    Beside those, whoever configures sets the level of our own loggers; that goes too.
    """
    logging.getLogger().handlers[:] = []
    for name in logs.OWN:
        logging.getLogger(name).setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log_to(stream: io.StringIO, **options: Any) -> logging.Logger:
    """Set up logging to a stream and return a logger."""
    bare_root()
    logs.configure("debug", stream=stream, environ=options.pop("environ", {}), **options)
    return logging.getLogger("pythia_core.test")


def test_a_line_for_people_says_when_how_bad_who_and_what() -> None:
    """One line: time, level, process, logger, text, and what was given as extra."""
    stream = io.StringIO()
    log_to(stream, who="orders/0").warning("held for %d s", 60, extra={"partition": 3})
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith("WARNING  orders/0 pythia_core.test: held for 60 s partition=3\n")
    assert line[:4].isdigit() and line[4] == "-"


def test_a_line_for_machines_is_one_json_object() -> None:
    """Time in UTC, level, logger, message, process, and the extras with their types."""
    stream = io.StringIO()
    log_to(stream, format="json", who="orders/0").error("gone", extra={"partition": 3, "at": None})
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "error",
        "logger": "pythia_core.test",
        "message": "gone",
        "pid": os.getpid(),
        "who": "orders/0",
        "partition": 3,
        "at": None,
    }


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("where", ["message", "argument", "extra", "error"])
def test_no_text_of_strangers_begins_a_line(format: Any, where: str) -> None:
    """A key, a header or an error with a line end in it stays within its line."""
    forged = f"x\n2026-01-01 00:00:00.000 INFO     forged\r\x1b[2K{CANARY}"
    stream = io.StringIO()
    log = log_to(stream, format=format)
    if where == "message":
        log.info(forged)
    elif where == "argument":
        log.info("key %s", forged)
    elif where == "extra":
        log.info("key", extra={"key": forged})
    else:
        try:
            raise ValueError(forged)
        except ValueError:
            log.exception("failed")
    rest = stream.getvalue().splitlines()[1:]
    assert CANARY in stream.getvalue()
    assert all(line.startswith("  | ") for line in rest)
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


@given(st.text())
def test_escaped_text_is_printable_on_one_line(text: str) -> None:
    """No control character, line separator, reordering mark or lone surrogate is left; the rest is as it was."""
    escaped = logs.escape(text)
    assert len(escaped.splitlines()) <= 1
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in escaped)
    assert not any(character in escaped for character in "\u202e\u2066\u200f\u2028")
    escaped.encode()
    if text.isprintable():
        assert escaped == text


def test_a_long_text_ends() -> None:
    """Somebody's payload does not fill the log."""
    assert logs.escape("x" * 10_000) == "x" * 8_192 + "... (1808 more characters)"


@pytest.mark.parametrize("format", ["text", "json"])
def test_secrets_and_passwords_in_urls_are_masked(format: Any) -> None:
    """In the message, in extras and in the error's text."""
    stream = io.StringIO()
    log = log_to(stream, format=format)
    log.info(
        "to %s", f"redis://u:{CANARY}@h/0", extra={"url": f"redis://u:{CANARY}@h/0", "pw": Secret(CANARY)}
    )
    try:
        raise ConnectionError("redis://u:%s@h/0 is gone" % CANARY)  # noqa: UP031 - else the source line shows it
    except ConnectionError:
        log.exception("lost")
    assert "redis://u:****@h/0 is gone" in stream.getvalue()
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_only_a_terminal_is_coloured_and_not_against_no_color(
    stream: io.StringIO, environ: dict[str, str], coloured: bool
) -> None:
    """NO_COLOR counts when it is set and not empty, as no-color.org has it."""
    log_to(stream, environ=environ).error("x")
    assert ("\x1b[31m" in stream.getvalue()) is coloured


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_bad_log_call_costs_nothing_but_itself(format: Any) -> None:
    """Arguments that do not fit, and values that cannot be shown, do not raise."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    stream = io.StringIO()
    log = log_to(stream, format=format)
    log.info("%d messages", "many")  # the message shows what came
    log.info("x", extra={"value": Broken()})  # this one is dropped
    log.info("still here")
    assert "bad log call: TypeError" in stream.getvalue()
    assert "still here" in stream.getvalue()


def test_a_closed_stream_drops_lines_and_counts_them() -> None:
    """What cannot be written is counted, and nothing raises."""
    stream = io.StringIO()
    bare_root()
    handler = logs.configure(stream=stream, environ={})
    stream.close()
    logging.getLogger("x").warning("lost")
    assert handler is not None and handler.dropped
    handler.flush()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_a_process_works_on_without_standard_error(how: str, unbuffered: str) -> None:
    """Closed or full, standard error changes neither output nor exit code, also where lines lie in a buffer at the end."""
    script = (
        "import logging; from pythia_core import logs; logs.configure();"
        "[logging.getLogger('x').error('lost') for _ in range(3)]; print('worked')"
    )
    command = ["sh", "-c", f'exec "$0" -c "$1" {how}', sys.executable, script]
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, env=environ)
    assert (done.stdout, done.returncode) == ("worked\n", 0)


def test_setting_up_twice_writes_every_line_once() -> None:
    """The second set-up replaces the first."""
    first, second = io.StringIO(), io.StringIO()
    log_to(first)
    logs.configure("info", "json", stream=second, environ={})
    logging.getLogger("pythia_core.test").info("once")
    assert not first.getvalue()
    assert second.getvalue().count("once") == 1


def test_a_program_that_has_set_up_logging_keeps_its_own() -> None:
    """Its handler stays the only one, and Pythia's loggers follow the level asked for."""
    own = logging.StreamHandler(io.StringIO())
    bare_root()
    logging.getLogger().addHandler(own)
    assert logs.configure("debug", environ={}) is None
    assert logging.getLogger().handlers == [own]
    assert logging.getLogger("pythia_core").level == logging.DEBUG


def test_what_is_said_before_the_set_up_is_not_lost() -> None:
    """Plugins are loaded before the settings of logs are known, and still are in the log."""
    stream = io.StringIO()
    bare_root()
    logs.early(logging.getLogger("pythia_core.test"), "plugin %s", "toy")
    log_to(stream).info("then")
    assert [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()] == ["plugin toy", "then"]


def test_what_is_said_before_the_settings_are_known_follows_them() -> None:
    """A set-up for what goes wrong meanwhile does not let plugins be logged in the wrong format."""
    meanwhile, stream = io.StringIO(), io.StringIO()
    bare_root()
    logs.configure(stream=meanwhile, environ={})
    logs.early(logging.getLogger("pythia_core.test"), "plugin toy")
    assert meanwhile.getvalue() == ""
    logs.configure("info", "json", stream=stream, environ={})
    assert json.loads(stream.getvalue())["message"] == "plugin toy"


@pytest.mark.parametrize(
    ("environ", "is_json", "shows_debug"),
    [
        ({}, False, False),
        ({"PYTHIA_LOG_FORMAT": "JSON", "PYTHIA_LOG_LEVEL": "debug"}, True, True),
        ({"PYTHIA_LOG_FORMAT": "xml", "PYTHIA_LOG_LEVEL": "loud"}, False, False),
    ],
)
def test_until_settings_are_known_the_environment_decides(
    environ: dict[str, str], is_json: bool, shows_debug: bool
) -> None:
    """An error in the settings themselves is in the format that a deployment reads; nonsense is not an error here."""
    stream = io.StringIO()
    bare_root()
    logs.configure(stream=stream, environ=environ)
    logging.getLogger("pythia_core.test").error("wrong")
    logging.getLogger("pythia_core.test").debug("detail")
    assert stream.getvalue().startswith("{") is is_json
    assert ("detail" in stream.getvalue()) is shows_debug
