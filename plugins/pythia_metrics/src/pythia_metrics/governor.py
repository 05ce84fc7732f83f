"""The governor: the only damper between what a policy wants and what is done.

It stands apart from the policies so that they stay raw: on Kubernetes the pod autoscaler damps, and two dampers in series
swing. It is pure as they are; what it remembers is in ``state``, as JSON.

Invariants, each with a property test:

- G1. Unknown means hold: nothing changes, whatever was wanted before.
- G2. It scales in only to the most that was wanted within ``scale_down_window``, and by at most half a ``step_seconds``
  (and one where there is only one to take); without that long a history it does not scale in at all.
- G3. It scales out at once, by four or to twice as many, whichever is more, a ``scale_up_seconds``.
- G4. Between two changes lie ``2 x start_s`` and ``3 x rebalance_s``, but for the first.
- G5. Processes whose intake is stopped by a brake or another reason of their own are not joined by more.
- G6. Until processes have been seen at their limit, it scales in one at a time: what they can do is an estimate.
- G7. A scale-out that brought less than a tenth of what it should caps the number for five minutes: what is short is
  something else, and more processes would make it worse. Until that is judged it goes no further than was wanted when it
  began, unless more arrives than then.
- G8. A change within the tolerance is none: where there are ten or more, one of 5 %.
- G9. While a policy says that the present number is used between :data:`BAND`, what is left included, it stays.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from pythia_core import Recommendation, ScalingPolicy, Snapshot
from pythia_metrics.policies import HELPLESS, HELPLESS_SECONDS, HOT, hold

__all__ = ["Governor"]

TOLERANCE_FROM = 10
BACKLOGGED = 2.0  # messages for each slot, from which on processes are at their limit
JUDGE_SECONDS = 30.0  # after a scale-out: the window of the rates, and a start
BAND = (0.4, 0.9)
"""Shares. A number that is planned for 0.7 does well between them, and to follow each swing costs starts and rebalances:
on the loads that come along two fifths of the changes and two thirds of the reversals were within (``pythia scaling simulate``)."""
MORE = 1.2  # times the arrivals: what is wanted now is wanted for another reason than then


@attrs.define
class Governor:
    """Damps a policy.

    Args:
        policy: what is damped.
        scale_down_window: seconds for which fewer must do.
        scale_up_seconds: seconds in which there may be four more, or twice as many.
        step_seconds: seconds in which half of them may go.
        tolerance: the share that is no change where there are ten or more.
    """

    policy: ScalingPolicy
    scale_down_window: float = 300.0
    scale_up_seconds: float = 15.0
    step_seconds: float = 60.0
    tolerance: float = 0.05

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return what is to be done: a whole number, with the raw one among the inputs."""
        said = self.policy.decide(snapshot, state.setdefault("policy", {}))
        now, current = snapshot.now, snapshot.desired
        state.setdefault("since", now)
        self._note_limit(snapshot, state)
        if said.confidence == "unknown" or not math.isfinite(said.replicas):
            state["wanted"] = []  # what was wanted before does not speak for now
            state["since"] = now
            return self._bounded(hold(snapshot, said.reason, **said.inputs), said)
        raw = math.ceil(said.replicas - 1e-9)
        kept = raw != current and _in_band(said, current)
        wanted = self._in_bounds(current if kept else raw, said, snapshot)
        recent = [(at, n) for at, n in state.get("wanted", []) if now - at <= self.scale_down_window]
        state["wanted"] = [*recent, (now, wanted)]
        number, why = self._damped(wanted, snapshot, state)
        if number > current:
            self._note_up(number, wanted, snapshot, state)
            state["ups"] = [*self._ups(state, now), (now, current)]
        elif number < current:
            state.pop("up", None)
            state["downs"] = [*self._downs(state, now), (now, current)]
        if number != current:
            state["changed"] = now
        inputs = {**said.inputs, "raw": said.replicas, "wanted": float(wanted)}
        return Recommendation(
            replicas=number,
            reason=why or ("hold_band" if kept and number == current and said.reason != HOT else said.reason),
            inputs=inputs,
            confidence=said.confidence,
        )

    def _bounded(self, held: Recommendation, said: Recommendation) -> Recommendation:
        return attrs.evolve(held, floor=said.floor)

    def _in_bounds(self, wanted: int, said: Recommendation, snapshot: Snapshot) -> int:
        if said.cap is not None:
            wanted = min(wanted, said.cap)
        if said.floor is not None:
            wanted = max(wanted, said.floor)
        return max(snapshot.min, min(snapshot.max, wanted))

    def _damped(self, wanted: int, snapshot: Snapshot, state: dict[str, Any]) -> tuple[int, str]:
        """Return the number, and why it is not what is wanted, or an empty text."""
        current, now = snapshot.desired, snapshot.now
        if wanted == current:
            return current, ""
        if current >= TOLERANCE_FROM and abs(wanted - current) <= self.tolerance * current:
            return current, "hold_tolerance"
        settle = max(2 * snapshot.start_s, 3 * (snapshot.rebalance_s or 0.0))
        if "changed" in state and now - state["changed"] < settle:
            return current, "hold_settling"
        if wanted > current:
            return self._up(wanted, snapshot, state)
        return self._down(snapshot, state)

    def _up(self, wanted: int, snapshot: Snapshot, state: dict[str, Any]) -> tuple[int, str]:
        current, now = snapshot.desired, snapshot.now
        ready = [worker for worker in snapshot.workers if worker.state == "ready"]
        if ready and any(worker.throttled for worker in ready):
            return current, "veto_throttled"
        self._judge(snapshot, state)
        if now < state.get("helpless_until", float("-inf")):
            return current, "brake_no_gain"
        up = state.get("up")
        if up is not None and _arrivals(snapshot) <= MORE * up["arrivals"]:
            wanted = min(wanted, up["wanted"])
            if wanted <= current:
                return current, "hold_unjudged"
        base = min([current, *(n for _, n in self._ups(state, now))])
        most = max(base + 4, 2 * base)
        if wanted > most:
            return max(current, most), "step_up" if most > current else "hold_step"
        return wanted, ""

    def _down(self, snapshot: Snapshot, state: dict[str, Any]) -> tuple[int, str]:
        current, now = snapshot.desired, snapshot.now
        if now - state["since"] < self.scale_down_window:
            return current, "hold_history"
        highest = max(n for _, n in state["wanted"])
        if highest >= current:
            return current, "hold_window"
        base = max([current, *(n for _, n in self._downs(state, now))])
        least = base - max(1, base // 2)
        number = max(highest, least)
        if not state.get("limit_seen"):
            number = max(number, current - 1)
        return (number, "") if number < current else (current, "hold_step")

    def _ups(self, state: dict[str, Any], now: float) -> list[tuple[float, int]]:
        return [(at, n) for at, n in state.get("ups", []) if now - at < self.scale_up_seconds]

    def _downs(self, state: dict[str, Any], now: float) -> list[tuple[float, int]]:
        return [(at, n) for at, n in state.get("downs", []) if now - at < self.step_seconds]

    def _note_up(self, number: int, wanted: int, snapshot: Snapshot, state: dict[str, Any]) -> None:
        """Remember how things stood when a scale-out began, and where it has come to."""
        begun = {
            "from": snapshot.desired,
            "rate": _rate(snapshot),
            "wanted": wanted,
            "arrivals": _arrivals(snapshot),
        }
        before = state.get("up", begun)
        more = begun["arrivals"] > MORE * before["arrivals"]
        bounds = {"wanted": wanted, "arrivals": begun["arrivals"]} if more else {}
        state["up"] = {**before, **bounds, "at": snapshot.now, "to": number}

    # -- what was learnt -----------------------------------------------------------------------------------------

    def _note_limit(self, snapshot: Snapshot, state: dict[str, Any]) -> None:
        ready = [worker for worker in snapshot.workers if worker.state == "ready"]
        slots = sum(worker.slots for worker in ready)
        left = sum(queue.backlog or 0 for queue in snapshot.queues)
        if ready and (left > BACKLOGGED * slots or all(worker.busy > 0.9 for worker in ready)):
            state["limit_seen"] = True

    def _judge(self, snapshot: Snapshot, state: dict[str, Any]) -> None:
        """See what the last scale-out brought, once its processes had their time."""
        up = state.get("up")
        waited = 2 * snapshot.start_s + JUDGE_SECONDS
        if up is None or snapshot.now - up["at"] < waited or snapshot.ready < up["to"]:
            return
        del state["up"]
        expected = up["rate"] * (up["to"] / up["from"] - 1) if up["from"] else 0.0
        left = sum(queue.backlog or 0 for queue in snapshot.queues)
        slots = sum(worker.slots for worker in snapshot.workers if worker.state == "ready")
        if left > BACKLOGGED * slots and expected > 0 and _rate(snapshot) - up["rate"] < HELPLESS * expected:
            state["helpless_until"] = snapshot.now + HELPLESS_SECONDS


def _in_band(said: Recommendation, current: int) -> bool:
    least, most = BAND
    return current > 0 and least <= said.inputs.get("utilisation", math.inf) <= most


def _arrivals(snapshot: Snapshot) -> float:
    return sum(queue.arrival_rate or 0.0 for queue in snapshot.queues)


def _rate(snapshot: Snapshot) -> float:
    return sum(worker.rate for worker in snapshot.workers)
