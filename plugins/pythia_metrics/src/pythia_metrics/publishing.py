"""Scales what is not here: looks at a deployment from outside, asks the policy, and publishes what it answers.

It stands apart from the servers that speak of it, over HTTP and gRPC. It starts no worker and damps nothing: Kubernetes'
autoscaler does both. A first message is noticed within a second; everything else is decided every 10 s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import anyio
import attrs

from pythia_core import (
    ConfigError,
    Lookout,
    QueueObservation,
    Recommendation,
    Scaler,
    ScalingPolicy,
    Snapshot,
    TrueRate,
)
from pythia_metrics.desire import Desire, desire
from pythia_metrics.governor import Governor
from pythia_metrics.keeping import Keeping, Learnt
from pythia_metrics.monitor import MetricsMonitor
from pythia_metrics.pods import Pods
from pythia_metrics.reaching import Place, reach, resolve

__all__ = ["Publishing", "Remembering", "ungoverned"]

ROUND_SECONDS = 10.0
LOOK_SECONDS = 0.1
SHOW_SECONDS = 1.0
DEFAULT_START = 10.0  # seconds until a pod works, while none has said it


@attrs.define
class Remembering:
    """A policy, and what it said last."""

    policy: ScalingPolicy
    said: Recommendation | None = None

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        self.said = None
        self.said = self.policy.decide(snapshot, state)
        return self.said


def ungoverned(policy: ScalingPolicy) -> ScalingPolicy:
    """Return a policy without the governor around it: whoever scales by the number damps it."""
    return policy.policy if isinstance(policy, Governor) else policy


@attrs.define(eq=False)
class Publishing:
    """Knows what should be published.

    Args:
        name: the deployment's.
        lookout: asks how much is left.
        places: where pods are.
        least, most: bounds of the number of pods.
        keeping: what was learnt before.
        monitor: is shown everything, as a supervisor's is.
    """

    name: str
    lookout: Lookout
    places: Sequence[Place]
    least: int
    most: int
    keeping: Keeping
    monitor: MetricsMonitor
    pods: Pods = attrs.field(factory=Pods)
    latest: Desire | None = attrs.field(default=None, init=False)
    _policy: Remembering = attrs.field(init=False)
    _scaler: Scaler = attrs.field(init=False)
    _rate: TrueRate = attrs.field(init=False)
    _start_s: float = attrs.field(init=False)
    _addresses: Sequence[Place] = attrs.field(factory=list, init=False)
    _facts: tuple[bool, bool] = attrs.field(default=(False, False), init=False)
    _changed: anyio.Event | None = attrs.field(default=None, init=False)
    _began: float = attrs.field(factory=time.monotonic, init=False)

    def __attrs_post_init__(self) -> None:
        if self.lookout.policy is None:
            raise ConfigError("there is no scaling policy to decide by: give one with --policy")
        self._policy = Remembering(ungoverned(self.lookout.policy))
        self._scaler = Scaler(self._policy, self.lookout.policy_name, self.least, self.most)
        learnt = self.keeping.load()
        self._rate = TrueRate(learnt.true_rate, learnt.best_rate)
        self._start_s = learnt.start_s or DEFAULT_START

    async def run(self) -> None:
        """Look and decide until cancelled.

        Raises:
            ConfigError: if the worker cannot be imported or is misconfigured, so that nothing will ever be known.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._look_for_ever)
            group.start_soon(self._go_round_for_ever)

    async def changed(self) -> None:
        """Wait until something else is published, or the same again."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    # -- looking -------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        shown = float("-inf")
        while True:
            fresh = self.lookout.look()
            if self.lookout.fault:
                raise ConfigError(self.lookout.fault)
            if fresh and self._is_woken():
                self._decide()
            if time.monotonic() - shown >= SHOW_SECONDS:
                shown = time.monotonic()
                self._show()
            await anyio.sleep(LOOK_SECONDS)

    def _is_woken(self) -> bool:
        """Tell whether there is news that cannot wait for the next round: an end of silence, or of not knowing."""
        before, now = self._facts, _facts(list(self.lookout.observed(time.monotonic()).values()))
        return (now[0] and not before[0]) or (now[1] and not before[1])

    async def _go_round_for_ever(self) -> None:
        while True:
            began = time.monotonic()
            found = await resolve(self.places)
            self._addresses = self._addresses if found is None else found
            reached = await reach(self._addresses)
            there = [str(place) for place in self._addresses if str(place) not in reached.absent]
            self.pods.take(None if found is None else there, reached.reports, time.monotonic())
            self._learn()
            self._decide()
            await anyio.sleep(max(1.0, began + ROUND_SECONDS - time.monotonic()))

    def _learn(self) -> None:
        if self.pods.countable:
            self.lookout.note(self.pods.settled)
        snapshot = self._snapshot()
        self._rate.learn(snapshot.workers, snapshot.queues)
        self._start_s = self.pods.start_seconds or self._start_s
        learnt = Learnt(true_rate=self._rate.value, best_rate=self._rate.best, start_s=self._start_s)
        if self._rate.value is not None:
            self.keeping.save(learnt)

    # -- deciding ------------------------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        now = time.monotonic()
        return self.pods.snapshot(
            self.lookout.observed(now),
            title=self.name,
            now=now,
            wall=time.time(),
            least=self.least,
            most=self.most,
            window_s=self.lookout.queues.window,
            start_s=self._start_s,
            true_rate=self._rate.value,
            errors=self.lookout.queues.stale(now),
        )

    def _decide(self) -> None:
        snapshot = self._snapshot()
        self._facts = _facts(snapshot.queues)
        decision = self._scaler.decide(snapshot)
        said = self._policy.said or Recommendation(replicas=decision.raw, reason=decision.reason)
        self.latest = desire(self.name, snapshot, decision, said, pods_known=self.pods.known)
        if self.latest.desired is not None:
            self._scaler.decisions[-1] = attrs.evolve(decision, after=self.latest.desired)
        if self._changed is not None:
            self._changed.set()
        self._changed = anyio.Event()

    def _show(self) -> None:
        snapshot = self._snapshot()
        workers = enumerate(snapshot.workers)
        self.monitor.show(
            {
                "supervised": True,
                "title": self.name,
                "target": self.latest.desired
                if self.latest and self.latest.desired is not None
                else snapshot.replicas,
                "stopping": False,
                "restarts": 0,
                "uptime": time.monotonic() - self._began,
                "children": [
                    {
                        "number": number,
                        "slot": number,
                        "state": worker.state,
                        "loaded": True,
                        "ready": worker.state == "ready",
                        "reasons": list(worker.paused),
                    }
                    for number, worker in workers
                ],
                "snapshot": snapshot,
                "policy": self._scaler.name,
                "policy_failures": self._scaler.failures,
                "decisions": list(self._scaler.decisions),
            }
        )


def _facts(queues: Sequence[QueueObservation]) -> tuple[bool, bool]:
    """Return whether every backlog is known, and whether there is something to do."""
    whole = bool(queues) and all(queue.backlog is not None for queue in queues)
    return whole, any(queue.backlog or queue.in_flight for queue in queues)
