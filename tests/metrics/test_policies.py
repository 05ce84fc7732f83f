"""Policies are pure functions that never take unknown for zero; each is checked on anything an observer could say."""

import copy
import json
import math
from typing import Any

import attrs
import pytest
from hypothesis import given, settings

from pythia_core import ConfigError, Recommendation, ScalingPolicy, Snapshot
from pythia_metrics.composing import Advice, Cap, Least, Most, Veto
from pythia_metrics.named import KINDS, raw
from pythia_metrics.policies import Busy, Cpu, Drain, Lag, Latency, Memory
from tests.metrics.snapshots import queue, snapshot, snapshots, worker

POLICIES: list[ScalingPolicy] = [
    Drain(),
    Lag(),
    Lag(threshold=100),
    Lag(with_lag=True, even=True),
    Latency(),
    Busy(),
    Cpu(),
    Memory(limit_mb=1000),
    Most([Drain(), Latency()]),
    Least([Drain(), Busy()]),
    Cap(Drain(), [Memory(limit_mb=1000)]),
    Veto(Drain(), [Cpu()]),
    Advice(Drain()),
    KINDS["drain"](),
]
BY_QUEUE: list[ScalingPolicy] = [Drain(), Lag(), Lag(threshold=100), Latency(), Most([Drain(), Latency()])]


def said(policy: ScalingPolicy, shown: Snapshot) -> Recommendation:
    """Ask a policy that remembers nothing."""
    return policy.decide(shown, {})


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@settings(max_examples=30)
@given(shown=snapshots())
def test_a_policy_is_a_pure_function(policy: ScalingPolicy, shown: Snapshot) -> None:
    """The same history gives the same answer, so that it can be replayed; its memory is JSON; its answer is a number."""
    state: dict[str, Any] = {}
    policy.decide(shown, state)
    again = json.loads(json.dumps(state))
    later = attrs.evolve(shown, now=shown.now + 5)
    first, second = policy.decide(later, copy.deepcopy(state)), policy.decide(later, again)
    assert first == second
    assert math.isfinite(first.replicas) and first.replicas >= 0
    assert first.reason.isidentifier()
    assert all(isinstance(value, float | int) and math.isfinite(value) for value in first.inputs.values())


@pytest.mark.parametrize("policy", [Drain(), Lag()], ids=repr)
def test_a_rate_of_next_to_nothing_is_none(policy: ScalingPolicy) -> None:
    """A handler that takes days has such a rate; to divide by it would want infinitely many processes."""
    shown = snapshot(queues=(queue(backlog=1000),), true_rate=5e-324)
    assert policy.decide(shown, {}).replicas == shown.desired


@pytest.mark.parametrize("policy", BY_QUEUE, ids=repr)
@settings(max_examples=40)
@given(shown=snapshots())
def test_unknown_never_scales_in(policy: ScalingPolicy, shown: Snapshot) -> None:
    """If any part of what is left is unknown, nobody is taken away; what is known may still ask for more."""
    hidden = attrs.evolve(queue(), backlog=None, oldest_age_s=None, arrival_rate=None)
    answer = said(policy, attrs.evolve(shown, queues=(*shown.queues, hidden)))
    assert answer.confidence == "unknown" or answer.replicas > shown.desired


@given(shown=snapshots())
def test_without_any_queue_nothing_is_decided_by_queues(shown: Snapshot) -> None:
    """No observer has answered yet."""
    for policy in BY_QUEUE:
        assert said(policy, attrs.evolve(shown, queues=())).confidence == "unknown"


def test_drain_does_what_its_formula_says() -> None:
    """Arrivals at 70 %, and what is left and comes during a start within a minute, over what one process does."""
    shown = snapshot(queues=(queue(backlog=600, arrival_rate=21.0),), true_rate=10.0, start_s=5.0)
    answer = said(Drain(), shown)
    assert answer.replicas == pytest.approx((21 / 0.7 + (600 + 21 * 5) / 60) / 10)
    assert answer.inputs["lag_threshold"] == pytest.approx(10 * 2.5 * 0.7)


@given(shown=snapshots())
def test_drain_wants_no_fewer_for_more(shown: Snapshot) -> None:
    """More left never means fewer processes."""
    more = tuple(
        attrs.evolve(one, backlog=None if one.backlog is None else one.backlog + 1000) for one in shown.queues
    )
    few, many = said(Drain(), shown), said(Drain(), attrs.evolve(shown, queues=more))
    if few.confidence == many.confidence == "ok" and few.reason != "idle":
        assert many.replicas >= few.replicas


def test_drain_holds_until_it_knows_what_a_process_can_do() -> None:
    """Handlers that take an hour have no rate; only an idle fleet without anything left goes to one."""
    assert said(Drain(), snapshot(true_rate=None, queues=(queue(backlog=100),))).confidence == "unknown"
    assert said(Drain(), snapshot(true_rate=None, queues=(queue(),))).reason == "hold_no_rate"
    idle = [worker(n, busy=0.0) for n in range(3)]
    assert said(Drain(), snapshot(true_rate=None, desired=3, workers=idle)).replicas == 1
    flying = snapshot(true_rate=None, desired=3, workers=idle, queues=(queue(in_flight=1),))
    assert said(Drain(), flying).confidence == "unknown"


def test_no_more_processes_than_partitions() -> None:
    """More could own nothing."""
    shown = snapshot(queues=(queue(backlog=100_000, partitions=3), queue(partitions=2)))
    assert said(Drain(), shown).cap == 5


def test_lag_computes_its_threshold() -> None:
    """KEDA's knob, from what was measured."""
    assert said(Lag(), snapshot(queues=(queue(backlog=35),))).replicas == pytest.approx(2.0)
    assert said(Lag(threshold=5), snapshot(queues=(queue(backlog=35),))).replicas == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({}, 5), ({"with_lag": True}, 4), ({"even": True}, 6), ({"with_lag": True, "even": True}, 4)],
)
def test_lag_has_kedas_caps(options: dict[str, bool], wanted: float) -> None:
    """Partitions with nothing left need nobody, and an even share leaves nobody with more than the others."""
    shown = snapshot(queues=(queue(backlog=500, partitions=12, partitions_with_lag=4),), true_rate=10.0)
    assert said(Lag(threshold=100, **options), shown).replicas == wanted
    unknown = snapshot(queues=(queue(backlog=500),), true_rate=10.0)
    assert said(Lag(threshold=100, **options), unknown).replicas == 5


def test_drain_counts_of_the_fullest_partition_what_one_process_can_do() -> None:
    """It is one process's, so that more of them are no help, which is said."""
    rates: dict[str, Any] = {"arrival_rate": 7.0, "partitions": 12}
    spread = queue(backlog=6000, max_partition_lag=500, **rates)
    hot = queue(backlog=6000, max_partition_lag=5900, **rates)
    wide, narrow = (said(Drain(), snapshot(queues=(one,), true_rate=10.0)) for one in (spread, hot))
    start = snapshot().start_s
    assert wide.replicas == pytest.approx((10 + (6000 + 7 * start) / 60) / 10)
    assert narrow.replicas == pytest.approx((10 + (100 + 600 + 7 * start) / 60) / 10)
    assert (wide.reason, narrow.reason) == ("drain", "hot_partition")
    assert narrow.inputs["max_partition_lag"] == 5900


@pytest.mark.parametrize(("age", "wanted"), [(1.0, 3), (10.0, 4), (45.0, 6), (400.0, 8)])
def test_latency_keeps_the_age_in_a_range(age: float, wanted: float) -> None:
    """In proportion above, at most twice as many, one fewer below."""
    shown = snapshot(desired=4, queues=(queue(backlog=9, oldest_age_s=age),))
    assert said(Latency(hi=30, lo=3), shown).replicas == wanted


def test_busy_and_cpu_scale_in_proportion() -> None:
    """To 70 % of what there is."""
    assert said(Busy(), snapshot(desired=2, workers=[worker(0, busy=0.9), worker(1, busy=0.5)])).replicas == 2
    assert said(Cpu(), snapshot(workers=[worker(0, cpu=0.7), worker(1, cpu=1.4)])).replicas == pytest.approx(
        3
    )


def test_memory_only_caps() -> None:
    """It never asks for more, and no more than fit are allowed."""
    large = [worker(n, rss_bytes=100 << 20) for n in range(2)]
    answer = said(Memory(limit_mb=1000), snapshot(workers=large))
    assert (answer.replicas, answer.cap) == (2, 8)


def test_most_and_least_choose() -> None:
    """The largest and the smallest, under the lowest cap of all."""
    shown = snapshot(queues=(queue(backlog=6000),), workers=[worker(0, busy=0.1, rss_bytes=1 << 28)])
    low, high = said(Busy(), shown).replicas, said(Drain(), shown).replicas
    assert said(Most([Busy(), Drain()]), shown).replicas == high
    assert said(Least([Busy(), Drain()]), shown).replicas == low
    assert said(Most([Drain(), Memory(limit_mb=1000)]), shown).cap == 3


def test_cap_and_veto_limit_another() -> None:
    """A cap bounds it; a veto stops a scale-out that others do not want, and never a scale-in."""
    shown = snapshot(queues=(queue(backlog=6000),), workers=[worker(0, cpu=0.1, rss_bytes=1 << 28)])
    assert said(Cap(Drain(), [Memory(limit_mb=1000)]), shown).cap == 3
    vetoed = said(Veto(Drain(), [Cpu()]), shown)
    assert (vetoed.replicas, vetoed.reason) == (2, "cpu_veto")
    calm = snapshot(desired=9, queues=(queue(),), workers=[worker(0, cpu=0.1)])
    assert said(Veto(Drain(), [Cpu()]), calm).replicas < 9


def test_advice_changes_nothing() -> None:
    """It says what would be done."""
    answer = said(Advice(Drain()), snapshot(desired=2, queues=(queue(backlog=6000),)))
    assert answer.replicas == 2 and answer.reason == "advice_drain" and answer.inputs["advised"] > 10


def test_policies_are_composed_by_name() -> None:
    """As a configuration file does it."""
    made: Any = raw({"kind": "max", "policies": ["drain", {"kind": "latency", "hi": 5.0}]})
    assert made == Most([Drain(), Latency(hi=5.0)])
    assert raw({"kind": "veto", "policy": "drain", "by": "cpu, busy"}) == Veto(Drain(), [Cpu(), Busy()])
    with pytest.raises(ConfigError, match=r"'magic' is no policy.*drain"):
        raw("magic")


def test_a_named_policy_takes_the_governors_options_too() -> None:
    """One table for both."""
    governor: Any = KINDS["drain"](rho=0.5, scale_down_window=9.0)
    assert (governor.policy, governor.scale_down_window) == (Drain(rho=0.5), 9.0)
