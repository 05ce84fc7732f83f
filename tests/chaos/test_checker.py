"""The judge is worth something: made-up histories with each kind of broken promise are condemned, a good one is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.chaos.checker import Rules, check
from tests.chaos.events import Event, Log, read_events

History = list[Event]
WORKER, OTHER = 101, 102
RULES = Rules(concurrency=2, unsettled=3, reach=5.0, patience=30.0, grace=20.0)


def event(what: str, time: float, id: str = "", by: int = WORKER, **more: Any) -> Event:
    """Return an event."""
    return Event(what, time, by, id, more)


def sent(id: str, time: float, script: str = "ok", *, ok: bool = True) -> History:
    """Return the events of a message that was sent."""
    attempt = event("attempt", time, id, 1, sum=7, script=script)
    return [attempt, event("ok", time + 0.1, id, 1)] if ok else [attempt]


def worked(id: str, time: float, by: int = WORKER) -> History:
    """Return the events of a message that was handled in half a second."""
    return [event("start", time, id, by), event("effect", time + 0.5, id, by, sum=7)]


def good() -> History:
    """Return a history in which every promise was kept: two messages, a poisoned one, and one that may not have been sent."""
    return [
        *sent("k-0", 0),
        *sent("k-1", 1),
        *sent("j-0", 2, "poison"),
        *sent("j-1", 3, ok=False),
        *worked("k-0", 10),
        *worked("k-1", 11),
        event("dead", 12, "j-0", 1, sum=7, attempts=3),
        event("settled", 13, by=1, ids=["k-0", "k-1", "j-0"]),
        event("counted", 13, by=1, began=4, left=0),
        event("stopped", 20, by=1, processes=[WORKER, OTHER], code=0, seconds=2.0),
        event("left", 30, by=1, waiting=0, pending=0),
    ]


def fault(time: float, *victims: int, until: float) -> History:
    """Return the events of a fault."""
    return [
        event("fault", time, by=1, name="kill", number=1, victims=list(victims)),
        event("healed", until, by=1, number=1, victims=[]),
    ]


def without(history: History, what: str, id: str = "") -> History:
    """Leave events out."""
    return [e for e in history if (e.what, e.id) != (what, id)]


def changed(history: History, what: str, id: str = "", **changes: Any) -> History:
    """Change the `more` of an event."""
    return [
        attrs.evolve(e, more={**e.more, **changes}) if (e.what, e.id) == (what, id) else e for e in history
    ]


def violated(history: History, rules: Rules = RULES) -> set[str]:
    """Return the invariants that were."""
    return {violation.invariant for violation in check(history, rules).violations}


def test_a_good_history_holds() -> None:
    """With its figures."""
    verdict = check(good(), RULES)
    assert verdict.violations == []
    figures = {"sent": 4, "owed": 3, "lost": 0, "effects": 2, "dead": 1, "duplicates": 0, "settled": 3}
    assert verdict.figures.items() >= figures.items()


@pytest.mark.parametrize(
    ("invariants", "broken"),
    [
        ("I1 I5", lambda: without(without(changed(good(), "settled", ids=["k-0", "j-0"]), "start", "k-1"), "effect", "k-1")),
        ("I2", lambda: [*good(), *worked("x-0", 14)]),
        ("I2", lambda: changed(good(), "effect", "k-0", sum=8)),
        ("I2", lambda: changed(good(), "dead", "j-0", sum=8)),
        ("I3", lambda: [*good(), *worked("k-0", 12)]),
        ("I3", lambda: [*good(), *worked("k-0", 12), *fault(12, OTHER, until=12.5)]),  # another was struck
        ("I3", lambda: [*good(), *worked("k-0", 12), *fault(18, WORKER, until=18.5)]),  # much later
        ("I3", lambda: [*good(), *(e for n in range(6) for e in worked("k-0", 12 + n)), *fault(12, WORKER, until=13)]),
        ("I5", lambda: [*good(), event("settled", 10.4, by=1, ids=["k-0"])]),
        ("I5", lambda: [*good(), event("counted", 11.2, by=1, began=11, left=1)]),  # of three; k-0 alone is done
        ("I6", lambda: without(changed(good(), "settled", ids=["k-0", "k-1"]), "dead", "j-0") + worked("j-0", 12)),
        ("I6", lambda: [*good(), event("dead", 14, "k-0", 1, sum=7, attempts=3)]),
        ("I6", lambda: changed(good(), "dead", "j-0", attempts=1)),
        ("I1 I6", lambda: [*good(), *sent("k-2", 12, "killer"), event("start", 13, "k-2")]),
        ("I7", lambda: [*good(), *(event("start", 14 + n, "j-1") for n in range(3))]),
        ("I8", lambda: changed(good(), "left", pending=1)),
        ("I8", lambda: changed(good(), "left", waiting=1)),
        ("I8", lambda: without(good(), "left")),
        ("I8", lambda: [*good(), *sent("k-2", 50), *worked("k-2", 51, by=103)]),  # nothing from 11.5 to 50.1
        ("I9", lambda: changed(good(), "stopped", code=1)),
        ("I9", lambda: changed(good(), "stopped", seconds=21.0)),
        ("I9", lambda: [*good(), event("start", 21, "j-1", OTHER)]),
    ],
)  # fmt: skip
def test_a_broken_promise_is_found(invariants: str, broken: Callable[[], History]) -> None:
    """And only that one."""
    assert violated(broken()) == set(invariants.split())


def test_a_fault_explains_a_second_effect_of_its_victims() -> None:
    """Within its reach, before and after, for either of the two; and it is counted."""
    for by in (WORKER, OTHER):
        for time in (6.0, 15.0):
            history = [*good(), *worked("k-0", 12, by), *fault(time, WORKER, until=time + 0.1)]
            verdict = check(history, RULES)
            assert verdict.violations == []
            assert (verdict.figures["duplicates"], verdict.duplicates["kill"]) == (1, 1)
            assert verdict.figures["bound"] == RULES.concurrency + RULES.unsettled


def test_a_message_that_kills_its_process_is_a_fault_of_its_own() -> None:
    """It explains what was done twice for it; and it is a dead letter that nobody may have tried."""
    killer = [
        *sent("k-2", 5, "killer"),
        event("start", 13, "k-2"),
        event("dead", 20, "k-2", 1, sum=7, attempts=0),
    ]
    verdict = check([*good(), *killer, *worked("k-1", 14, OTHER)], RULES)
    assert verdict.violations == []
    assert verdict.duplicates == {"killer message": 1}


def test_a_graceful_stop_explains_nothing() -> None:
    """What a process did that was stopped gracefully is not done again."""
    history = [*good(), *sent("k-2", 17), *worked("k-2", 18.5), *worked("k-2", 22, by=103)]
    assert violated(history) == {"I3"}


def test_order_is_asked_for_where_it_was_promised() -> None:
    """A message may start again, but none before those before it are done."""
    ordered = attrs.evolve(RULES, ordered=True)
    assert violated(good(), ordered) == set()
    again = [*good(), *worked("k-0", 12), *worked("k-1", 13), *fault(12, WORKER, until=13)]
    assert violated(again, ordered) == set()
    overtaken = [*good(), *sent("k-2", 4), *worked("k-2", 11.1)]
    assert violated(overtaken, ordered) == {"I4"}
    assert violated(overtaken) == set()


def test_order_waits_for_what_was_confirmed_until_it_has_failed_for_the_last_time() -> None:
    """What may never have been written is waited for by nobody; a dead letter is seen by the observer only later."""
    ordered = attrs.evolve(RULES, ordered=True)
    doubtful = [*good(), *sent("k-2", 4, ok=False), *sent("k-3", 5), *worked("k-3", 12)]
    assert violated(doubtful, ordered) == set()
    for attempt, broken in ((2, {"I4"}), (3, set[str]())):
        failed = [event("start", 5, "j-0", attempt=attempt), event("fail", 6, "j-0")]
        behind = [*without(good(), "attempt", "j-1"), *sent("j-1", 3), *worked("j-1", 7)]
        assert violated([*behind, *failed], ordered) == broken


def test_what_was_not_confirmed_is_owed_to_nobody() -> None:
    """It may have its effect, and may not."""
    assert violated([*good(), *worked("j-1", 12)]) == set()


def test_a_history_survives_its_writers(tmp_path: Path) -> None:
    """In the order of its times, over all files, without a last line that was cut short."""
    first, second = Log(tmp_path, "worker"), Log(tmp_path, "worker")
    first.write("start", "k-0", attempt=1)
    second.write("up")
    first.write("effect", "k-0", sum=7)
    path = next(path for path in tmp_path.iterdir() if b"effect" in path.read_bytes())
    with path.open("ab") as file:
        file.write(b'{"what": "sta')
    events = read_events(tmp_path)
    assert [(event.what, event.id) for event in events] == [("start", "k-0"), ("up", ""), ("effect", "k-0")]
    assert events[0].more == {"attempt": 1}
