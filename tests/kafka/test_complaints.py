"""The client's own log lines: what of them a user sees."""

import logging

import pytest

from pythia_core import SubscriptionLost
from pythia_kafka import KafkaAdmin
from pythia_kafka.complaints import LOGGERS, Complaints, explained
from pythia_kafka.options import Login
from tests.kafka.driving import Member
from tests.servers.server import free_port


def record(
    template: str, *args: object, level: int = logging.ERROR, exc_info: object = None
) -> logging.LogRecord:
    """Return a record as the client makes it."""
    return logging.LogRecord("aiokafka", level, "client.py", 1, template, args, exc_info)  # type: ignore[arg-type]


def test_each_complaint_is_passed_on_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an outage the client says the same several times a second."""
    now = 100.0
    monkeypatch.setattr("pythia_kafka.complaints.monotonic", lambda: now)
    complaints = Complaints()
    said = [complaints.filter(record("Unable to update metadata from %s", [n])) for n in range(5)]
    assert said == [True, False, False, False, False]
    assert complaints.filter(record("LeaveGroup request failed: %s", "x"))
    now += 61.0
    assert complaints.filter(record("Unable to update metadata from %s", [1]))


def test_an_ordinary_life_is_not_complained_about() -> None:
    """A group that takes somebody in warns of nothing; what has a traceback is a fault of the client's, and is shown."""
    complaints = Complaints()
    ordinary = "Heartbeat failed for group %s because it is rebalancing"
    assert not complaints.filter(record(ordinary, "g", level=logging.WARNING))
    assert not complaints.filter(record("(Re-)joining group %s", "g", level=logging.INFO))
    error = (ValueError, ValueError("x"), None)
    for _ in range(2):
        assert complaints.filter(record("Unexpected error in fetcher routine", exc_info=error))


def test_all_of_it_is_there_for_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    """As records of that level."""
    monkeypatch.setattr(logging.getLogger("aiokafka"), "level", logging.DEBUG)
    logging.getLogger("aiokafka").manager._clear_cache()  # type: ignore[attr-defined]
    complaints = Complaints()
    info = record("(Re-)joining group %s", "g", level=logging.INFO)
    assert complaints.filter(info)
    assert (info.levelno, info.levelname) == (logging.DEBUG, "DEBUG")
    logging.getLogger("aiokafka").manager._clear_cache()  # type: ignore[attr-defined]


def test_the_client_has_no_other_loggers() -> None:
    """A filter holds for one logger, so each has to be named."""
    used = {
        name
        for name, logger in logging.Logger.manager.loggerDict.items()
        if name.split(".")[0] == "aiokafka" and isinstance(logger, logging.Logger) and "assignors" not in name
    }
    assert used <= set(LOGGERS)


async def test_an_error_says_why_nobody_could_be_reached(caplog: pytest.LogCaptureFixture) -> None:
    """The reason for each server, of which the client's own error has none."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(
        SubscriptionLost, match=rf"no broker can be reached \({address}: .*Connect call failed"
    ):
        async with Member.join("orders", bootstrap_servers=address):
            pass
    async with KafkaAdmin(bootstrap_servers=address) as admin:
        with pytest.raises(Exception, match=rf"{address}: .*Connect call failed"):
            await admin.topics()
    assert "Unable connect to" not in caplog.text
    assert explained(OSError("else"), Login(servers=(address,)), 1.0) == "else"
