"""Pods from outside: what they have settled counts once, whoever comes, goes, restarts or falls silent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import QueueObservation, Snapshot
from pythia_metrics.pods import Pods
from tests.metrics.outside import pod


def seen(pods: Pods, **queue: Any) -> Snapshot:
    """Return a snapshot of pods beside one queue."""
    known = QueueObservation(system="test", destination="orders", **{"backlog": 0, **queue})
    return pods.snapshot(
        {"orders": known},
        title="orders",
        now=0.0,
        wall=0.0,
        least=0,
        most=10,
        window_s=30.0,
        start_s=1.0,
        true_rate=None,
    )


def test_o1_a_pod_that_is_old_when_it_is_seen_adds_only_what_it_does_then() -> None:
    """A scaler that restarts does not take the work of a week for that of a round."""
    pods = Pods()
    pods.take(["1"], {"1": pod("a", 5000)}, 0.0)
    assert pods.settled["orders"] == 0
    pods.take(["1"], {"1": pod("a", 5040)}, 10.0)
    assert pods.settled["orders"] == 40


def test_o1_a_pod_that_is_new_adds_all_it_did() -> None:
    """It was not there in the round before, and is younger than that."""
    pods = Pods()
    pods.take([], {}, 0.0)
    pods.take(["1"], {"1": pod("a", 30, age_s=6.0)}, 10.0)
    assert pods.settled["orders"] == 30


def test_o1_a_pod_that_restarts_under_its_address_is_another() -> None:
    """Its counters begin anew, and the sum goes on."""
    pods = Pods()
    pods.take(["1"], {"1": pod("a", 100)}, 0.0)
    pods.take(["1"], {"1": pod("a", 150)}, 10.0)
    pods.take(["1"], {"1": pod("b", 20, age_s=4.0)}, 20.0)
    assert pods.settled["orders"] == 70


def test_o1_a_pod_that_was_silent_adds_what_it_did_meanwhile() -> None:
    """Nothing is lost, nothing counted twice, and no rate is measured up to a round that lacks it."""
    pods = Pods()
    pods.take(["1"], {"1": pod("a", 100)}, 0.0)
    pods.take(["1"], {}, 10.0)
    assert not pods.countable
    pods.take(["1"], {"1": pod("a", 300)}, 20.0)
    assert pods.settled["orders"] == 200 and pods.countable


LIVES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.booleans()), max_size=40)


@given(LIVES)
def test_o1_nothing_counts_twice_and_nothing_falls(rounds: list[tuple[int, int, bool]]) -> None:
    """Whatever pods do in whatever order, the sum is what they did since they were first seen, or less by who died unheard."""
    pods, done, last = Pods(), dict.fromkeys(range(4), 1000), 0
    for number, (who, more, heard) in enumerate(rounds):
        done[who] += more
        reports = {str(who): pod(str(who), done[who], age_s=1e6)} if heard else {}
        pods.take(["0", "1", "2", "3"], reports, 10.0 * number)
        assert last <= pods.settled["orders"] <= sum(done.values()) - 4000
        last = pods.settled["orders"]


def test_o2_who_does_not_answer_is_there_all_the_same() -> None:
    """It counts, in no state to work, and what is known of queues is a part."""
    pods = Pods()
    pods.take(["1", "2"], {"1": pod("a", in_flight=3)}, 0.0)
    shown = seen(pods)
    assert (shown.replicas, shown.ready, shown.errors) == (2, 1, ("2",))
    assert shown.queues[0].at_least and shown.queues[0].in_flight is None


def test_o2_who_has_not_answered_for_long_holds_up_no_rate() -> None:
    """After three rounds rates are measured without it; they are still a part."""
    pods = Pods()
    for number in range(3):
        pods.take(["1", "2"], {"1": pod("a")}, 10.0 * number)
    assert pods.countable and pods.partial


def test_o3_not_knowing_is_not_none() -> None:
    """A resolver that does not answer leaves what there was; one that knows of nobody says so."""
    pods = Pods()
    pods.take(None, {}, 0.0)
    assert (pods.known, pods.partial, pods.countable) == (False, True, False)
    pods.take([], {}, 10.0)
    assert (pods.known, pods.partial, pods.countable, pods.replicas) == (True, False, True, 0)
    pods.take(["1"], {"1": pod("a")}, 20.0)
    pods.take(None, {"1": pod("a")}, 30.0)
    assert (pods.known, pods.partial, pods.replicas) == (True, True, 1)


def test_two_addresses_of_one_pod_are_one_pod() -> None:
    """A pod of a dual stack has two."""
    pods = Pods()
    pods.take(["1", "::1"], {"1": pod("a", 10), "::1": pod("a", 10)}, 0.0)
    assert pods.replicas == 1


def test_what_is_in_flight_is_what_pods_say_where_the_broker_cannot() -> None:
    """Kafka's backlog holds it already and says nothing of it; Redis says it itself."""
    pods = Pods()
    pods.take(["1", "2"], {"1": pod("a", in_flight=3), "2": pod("b", in_flight=4)}, 0.0)
    assert seen(pods).queues[0].in_flight == 7
    assert seen(pods, in_flight=1).queues[0].in_flight == 1


@pytest.mark.parametrize(("processes", "pods_that_fit"), [(1, 12), (4, 3), (5, 3)])
def test_partitions_are_shared_by_the_processes_of_pods(processes: int, pods_that_fit: int) -> None:
    """A pod of four processes can own four partitions at least."""
    pods = Pods()
    pods.take(["1"], {"1": pod("a", processes=processes)}, 0.0)
    assert seen(pods, partitions=12).queues[0].partitions == pods_that_fit


def test_a_pod_is_one_replica_whatever_it_holds() -> None:
    """Rates add up, shares are means, and one that stops is draining."""
    pods = Pods()
    pods.take(["1", "2"], {"1": pod("a", processes=2), "2": pod("b", stopping=True)}, 0.0)
    first, second = seen(pods).workers
    assert (first.state, first.rate, first.busy, first.slots) == ("ready", 10.0, 0.5, 20)
    assert second.state == "draining"
