"""Policies made of others: the largest, the smallest, one under the caps or the veto of others, and one that only advises.

They stand apart from ``policies``, which decide by what is seen; these decide by what those said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from pythia_core import Recommendation, ScalingPolicy, Snapshot
from pythia_metrics.policies import hold

__all__ = ["Advice", "Cap", "Least", "Most", "Veto"]


def _ask(
    policies: Sequence[ScalingPolicy], snapshot: Snapshot, state: dict[str, Any]
) -> list[Recommendation]:
    """Ask several, each with a state of its own."""
    return [policy.decide(snapshot, state.setdefault(str(n), {})) for n, policy in enumerate(policies)]


def _bounded(chosen: Recommendation, answers: Sequence[Recommendation]) -> Recommendation:
    """Return the one chosen, under the lowest cap and above the highest floor of all."""
    caps = [answer.cap for answer in answers if answer.cap is not None]
    floors = [answer.floor for answer in answers if answer.floor is not None]
    return attrs.evolve(chosen, cap=min(caps, default=None), floor=max(floors, default=None))


@attrs.define
class Most:
    """The largest of several, under the least of their caps. One that does not know may be outbid, never undercut.

    Args:
        policies: of whom.
    """

    policies: Sequence[ScalingPolicy]

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return the largest."""
        answers = _ask(self.policies, snapshot, state)
        known = [answer for answer in answers if answer.confidence != "unknown"]
        if not known:
            return answers[0] if answers else hold(snapshot, "hold_unknown")
        best = max(known, key=lambda answer: answer.replicas)
        if len(known) < len(answers) and best.replicas <= snapshot.desired:
            return hold(snapshot, "hold_unknown", **best.inputs)
        return _bounded(best, answers)


@attrs.define
class Least:
    """The smallest of several; one that does not know holds them all.

    Args:
        policies: of whom.
    """

    policies: Sequence[ScalingPolicy]

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return the smallest."""
        answers = _ask(self.policies, snapshot, state)
        unknown = [answer for answer in answers if answer.confidence == "unknown"]
        if unknown or not answers:
            return unknown[0] if unknown else hold(snapshot, "hold_unknown")
        return _bounded(min(answers, key=lambda answer: answer.replicas), answers)


@attrs.define
class Cap:
    """One policy under the caps of others, such as memory; theirs that are not known cap nothing.

    Args:
        policy: which drives.
        by: whose caps hold.
    """

    policy: ScalingPolicy
    by: Sequence[ScalingPolicy]

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return the driver's answer with the lowest cap of all."""
        said = self.policy.decide(snapshot, state.setdefault("policy", {}))
        caps = [answer.cap for answer in _ask(self.by, snapshot, state) if answer.confidence != "unknown"]
        found = [cap for cap in (said.cap, *caps) if cap is not None]
        return attrs.evolve(said, cap=min(found, default=None))


@attrs.define
class Veto:
    """One policy that may scale out only while all others want more too; they never scale in.

    Args:
        policy: which drives.
        by: who has to agree to a scale-out; one that does not know agrees.
    """

    policy: ScalingPolicy
    by: Sequence[ScalingPolicy]

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return the driver's answer, or the present number where it was vetoed."""
        said = self.policy.decide(snapshot, state.setdefault("policy", {}))
        answers = _ask(self.by, snapshot, state)
        against = [a for a in answers if a.confidence != "unknown" and a.replicas <= snapshot.desired]
        if said.replicas <= snapshot.desired or not against:
            return said
        inputs = {**said.inputs, "vetoed": said.replicas}
        return Recommendation(replicas=snapshot.desired, reason=f"{against[0].reason}_veto", inputs=inputs)


@attrs.define
class Advice:
    """Decides and changes nothing: what another policy would do stands in its inputs and in ``/scaling``.

    Args:
        policy: which.
    """

    policy: ScalingPolicy

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return the present number, and the advice."""
        said = self.policy.decide(snapshot, state)
        inputs = {**said.inputs, "advised": said.replicas}
        return Recommendation(replicas=snapshot.desired, reason=f"advice_{said.reason}", inputs=inputs)
