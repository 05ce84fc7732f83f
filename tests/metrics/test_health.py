"""Probes: the status is the contract, no state of a broker makes a worker be restarted, and the text says why."""

from typing import Any

import pytest

from pythia_metrics.health import LOOP_SECONDS, Facts, probe


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
    fleet = {"children": children, "target": target, "stopping": more.pop("stopping", False)}
    return Facts(fleet, silence, more.pop("loaded", True), more.pop("waiting", {}))


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
