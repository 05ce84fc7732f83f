"""Probes: the status is the contract, no state of a broker makes a worker be restarted, and the text says why."""

from typing import Any

import pytest

from pythia_metrics.health import ALONE_SECONDS, LOOP_SECONDS, Facts, probe
from tests.metrics.snapshots import queue, snapshot


def facts(*states: str, target: int = 2, silence: float = 0.0, **more: Any) -> Facts:
    """Return what the checks look at, with children in these states."""
    children = [
        {
            "number": n + 1,
            "slot": n,
            "state": state,
            "loaded": True,
            "ready": state == "ready",
            "reasons": ["secret"],
        }
        for n, state in enumerate(states)
    ]
    fleet = {
        "children": children,
        "target": target,
        "stopping": more.pop("stopping", False),
        "supervised": more.pop("supervised", True),
        "snapshot": more.pop("snapshot", None),
    }
    return Facts(fleet, silence, more.pop("loaded", True), more.pop("waiting", {}), more.pop("reports", {}))


@pytest.mark.parametrize("states", [("ready", "ready"), ("waiting", "waiting"), ("silent",), ()])
@pytest.mark.parametrize("stopping", [False, True])
def test_livez_asks_only_for_the_loop(states: tuple[str, ...], stopping: bool) -> None:
    """A broker that is down, a handler that hangs and a drain are no reason to kill anybody."""
    assert probe("livez", facts(*states, stopping=stopping), {}).status == 200
    assert probe("livez", facts(*states, silence=LOOP_SECONDS + 1), {}).status == 503


def test_readyz_needs_one_that_is_ready_and_says_degraded() -> None:
    """Fewer than there should be are less, not nothing."""
    assert probe("readyz", facts("ready", "ready"), {}).body == "ok\n"
    degraded = probe("readyz", facts("ready", "waiting", waiting={2: "broker"}), {"verbose": ""})
    assert degraded.status == 200
    assert "[+]processes ok: degraded, 1 of 2 ready; process 1 waiting for its broker" in degraded.body
    assert probe("readyz", facts("waiting", "waiting"), {}).status == 503
    assert probe("readyz", facts("ready", "ready", stopping=True), {}).status == 503


def test_startupz_never_asks_for_a_broker() -> None:
    """Loaded is started, also with nobody ready."""
    assert probe("startupz", facts("waiting"), {}).status == 200
    assert probe("startupz", facts("starting", loaded=False), {}).status == 503
    assert probe("startupz", Facts(None, 0.0, False, {}), {}).status == 503
    assert probe("readyz", Facts(None, 0.0, False, {}), {}).status == 503


def test_one_check_can_be_asked_or_left_out() -> None:
    """As Kubernetes' own servers do it."""
    stopping = facts("ready", "ready", stopping=True)
    assert probe("readyz/processes", stopping, {}).status == 200
    assert probe("readyz", stopping, {"exclude": "running"}).status == 200
    assert probe("readyz/nonsense", stopping, {}).status == 404


def test_no_reason_of_a_broker_is_shown() -> None:
    """Reasons name hosts and errors; whoever can reach the port may read what is said there."""
    for name in ("livez", "readyz", "startupz"):
        assert "secret" not in probe(name, facts("waiting", "silent"), {"verbose": ""}).body


def test_a_process_alone_may_compute_for_a_minute() -> None:
    """Its loop is its handlers' too: one that blocks it is slow, and would be as slow after a restart."""
    for silence, status in ((LOOP_SECONDS + 1, 200), (ALONE_SECONDS + 1, 503)):
        assert (
            probe("livez", facts("ready", target=1, silence=silence, supervised=False), {}).status == status
        )


STUCK = {"seconds": 312.0, "message": "secret", "why": "secret", "state": "parked", "text": "secret"}


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        ({"stuck": [STUCK, {**STUCK, "seconds": 70.0}]}, "degraded, 2 messages stuck, for 312 s at most"),
        (
            {"paused": ["memory", "messages in flight"], "full": ["messages in flight"]},
            "degraded, intake stopped: memory",
        ),
        ({}, "degraded, messages wait and none is at work"),
    ],
)
def test_what_is_stuck_is_said_and_fails_no_probe(worker: dict[str, Any], said: str) -> None:
    """A message that cannot be done stops a partition, not a rollout; no restart would help it."""
    counters = {"in_flight": 0 if "none is" in said else 5}
    seen = facts(
        "ready",
        "ready",
        snapshot=snapshot(queues=(queue(backlog=9, ack_rate=0.0, stalled=True),)),
        reports={1: {"workers": [{**worker, "counters": counters}]}},
    )
    for name in ("livez", "readyz", "startupz"):
        assert probe(name, seen, {}).status == 200
    answer = probe("readyz/progress", seen, {"verbose": ""})
    assert answer.body.splitlines()[0] == f"[+]progress ok: {said}" and "secret" not in answer.body


def test_work_under_way_is_progress() -> None:
    """A handler may take an hour: nothing is settled meanwhile, and nothing is wrong."""
    seen = facts(
        "ready",
        "ready",
        snapshot=snapshot(queues=(queue(backlog=9, ack_rate=0.0, stalled=True),)),
        reports={1: {"workers": [{"counters": {"in_flight": 1}, "full": ["messages in flight"]}]}},
    )
    assert "[+]progress ok\n" in probe("readyz", seen, {"verbose": ""}).body


def test_the_text_is_that_of_kubernetes_own_servers() -> None:
    """`ok` alone while all is well, and each check by name when asked or when one failed."""
    well = facts("ready", "ready")
    assert probe("livez", well, {}).body == "ok\n"
    assert probe("livez", well, {"verbose": ""}).body == "[+]loop ok\nlivez check passed\n"
    ill = facts("ready", "ready", silence=LOOP_SECONDS + 1)
    assert probe("livez", ill, {}).body == "[-]loop failed: silent for 11 s\nlivez check failed\n"
    stopping = facts("ready", "ready", stopping=True)
    assert probe("readyz", stopping, {"exclude": "running,progress"}).body == "ok\n"
