"""The scaling policy ``worker``: one process more or less for each answer of the worker's own class.

It stands apart from what asks (:mod:`pythia_core.supervisor.asking`), since a policy is a pure function of a snapshot.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from pythia_core.contracts import Recommendation, Snapshot
from pythia_core.worker import Worker

__all__ = ["ByWorker", "opinions_of"]

OPINIONS = ("should_scale_up", "should_scale_down")


def opinions_of(kind: type[Worker[Any]]) -> list[str]:
    """Return which of the two questions a worker's class answers."""
    return [name for name in OPINIONS if getattr(kind, name) is not getattr(Worker, name)]


@attrs.frozen
class ByWorker:
    """Follow ``should_scale_up`` and ``should_scale_down``, a process at a time.

    An answer counts once, so ``scale_check_interval`` says how fast the number of processes may change; and there is no
    other one more before the last one is at work, whose start costs what is measured. Of several workers in a file one
    that wants more is enough; for fewer all of them have to agree, by their latest answers.

    Example:
        ``pythia run worker.py --policy worker --min 1 --max 8``
    """

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Return one more, one fewer, or as many as there are to be already; see :class:`~pythia_core.ScalingPolicy`."""
        heard = max((opinion.at for opinion in snapshot.opinions), default=-math.inf)
        if heard <= state.get("heard", -math.inf):
            return Recommendation(replicas=snapshot.desired, reason="hold_nothing_said", confidence="unknown")
        fresh = [opinion for opinion in snapshot.opinions if opinion.at > state.get("heard", -math.inf)]
        state["heard"] = heard
        if any(opinion.change > 0 for opinion in fresh):
            if snapshot.ready < snapshot.desired:
                return Recommendation(replicas=snapshot.desired, reason="hold_starting")
            return Recommendation(replicas=snapshot.desired + 1, reason="worker_wants_more")
        if all(opinion.change < 0 for opinion in snapshot.opinions):
            return Recommendation(replicas=max(1, snapshot.desired - 1), reason="worker_wants_fewer")
        return Recommendation(replicas=snapshot.desired, reason="worker_is_content")
