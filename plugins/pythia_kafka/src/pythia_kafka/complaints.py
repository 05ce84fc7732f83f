"""The client's own log: kept down where the fault is ours to handle, and listened to where nothing else says the reason.

The client logs each try of each repetition as an error, and an ordinary rebalance as a warning: a thousand lines from
four workers that rode some outages of a minute out, and came through. What does not mend is raised to us, and said once.
But why nobody could be reached stands in no error of the client's, only there.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

from aiokafka.errors import KafkaError

from pythia_kafka.options import Login

QUIET_SECONDS: Final = 60.0  # in which the same complaint is passed on once

CONNECT: Final = 'Unable connect to "%s:%s": %s'
ASK: Final = 'Unable to request metadata from "%s:%s": %s'
ORDINARY: Final = frozenset(
    {
        CONNECT,  # which we say ourselves, with the reason
        ASK,
        "Group Coordinator Request failed: %s",  # as on every new cluster; it is asked again
        "Heartbeat failed for group %s because it is rebalancing",
        "Got error produce response on topic-partition %s, retrying. Error: %s",
        "Got error produce response: %s",
        "Topic %s not found in cluster metadata",  # which we say ourselves
        "Topic %s is not available during auto-create initialization",
        "Sending username and password in the clear",  # never without being told to
    }
)
"""What is said in the ordinary life of a group, or by us."""

LOGGERS: Final = (
    "aiokafka",
    *(
        f"aiokafka.{name}"
        for name in (
            *("cluster", "conn", "helpers", "admin.client", "producer.producer", "producer.sender"),
            *("consumer.consumer", "consumer.fetcher", "consumer.group_coordinator"),
            "consumer.subscription_state",
        )
    ),
)


class Complaints(logging.Filter):
    """Passes on what has a traceback, and of other complaints each once in a while; all else is for debugging."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}  # host:port -> why it could not be reached
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is passed on, and make it one for debugging if need be."""
        template = str(record.msg)
        if template in (CONNECT, ASK) and isinstance(record.args, tuple) and len(record.args) == 3:
            host, port, error = record.args
            self.reasons[f"{host}:{port}"] = str(error) or type(error).__name__
        if record.exc_info or (record.levelno >= logging.WARNING and self._is_news(template)):
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)

    def _is_news(self, template: str) -> bool:
        now = monotonic()
        if template in ORDINARY or now - self._passed.get(template, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._passed[template] = now
        return True


logging.getLogger("aiokafka.conn").setLevel(logging.INFO)  # else every request, passwords and tokens in it
complaints: Final = Complaints()
for _name in LOGGERS:
    logging.getLogger(_name).addFilter(complaints)


def explained(error: KafkaError | OSError, login: Login, seconds: float) -> str:
    """Return the text of an error, and where nobody could be reached the reason for each server.

    Args:
        error: as the client raised it, just now; a TimeoutError where it said nothing.
        login: whom it tried to reach.
        seconds: how long it was waited for.
    """
    known = complaints.reasons
    reasons = [f"{server}: {known[server]}" for server in login.servers if server in known]
    if reasons and "Unable to bootstrap" in str(error):
        return f"no broker can be reached ({'; '.join(reasons)})"
    if isinstance(error, TimeoutError) or not str(error):
        refused = ", as where a token is refused, which the client does not hear" if login.token else ""
        return f"no answer in {seconds:g} s{refused}"
    return str(error)
