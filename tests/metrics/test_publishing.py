"""Scaling from outside: what is noticed at once, what in rounds, what is learnt and kept, and what is answered over HTTP."""

import http.client
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pythia_core import ConfigError
from pythia_metrics import publishing
from pythia_metrics.governor import Governor
from pythia_metrics.keeping import Keeping
from pythia_metrics.policies import Drain
from pythia_metrics.publishing import Publishing
from pythia_metrics.publishing_http import PublishingMonitor
from pythia_metrics.reaching import Place, Reached
from pythia_metrics.report import PodReport
from tests.metrics.outside import Told, pod
from tests.metrics.running import get
from tests.waiting import eventually


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> dict[str, PodReport]:
    """Have the test say who answers; one round only, unless it is asked for more."""
    reports: dict[str, PodReport] = {}

    async def resolve(places: Sequence[Place]) -> list[Place]:
        return [Place(address) for address in reports]

    async def reach(places: Sequence[Place]) -> Reached:
        return Reached({str(Place(address)): report for address, report in reports.items()})

    monkeypatch.setattr(publishing, "resolve", resolve)
    monkeypatch.setattr(publishing, "reach", reach)
    monkeypatch.setattr(publishing, "ROUND_SECONDS", 3600.0)
    return reports


def made(lookout: Told, state: Path | None = None, token: str = "", most: int = 10) -> Publishing:
    """Return what publishes a deployment that may sleep."""
    monitor = PublishingMonitor(token=token)
    keeping = Keeping(state, "orders")
    publishing = Publishing("orders", lookout, [Place("pods")], 0, most, keeping, monitor)  # type: ignore[arg-type]
    monitor.publishing = publishing
    return publishing


@asynccontextmanager
async def running(publishing: Publishing) -> AsyncIterator[Publishing]:
    """Run it, through its first round."""
    async with anyio.create_task_group() as group:
        group.start_soon(publishing.run)
        await eventually(lambda: publishing.latest is not None, "it has decided once")
        yield publishing
        group.cancel_scope.cancel()


def desired(publishing: Publishing) -> int | None:
    """Return the number that is published."""
    assert publishing.latest is not None
    return publishing.latest.desired


async def test_a_first_message_is_noticed_between_rounds(pods: dict[str, PodReport]) -> None:
    """And so is the end of not knowing; that nothing is left any more waits for a round."""
    told = Told()
    async with running(made(told)) as publishing:
        assert desired(publishing) is None
        told.tell(0)
        await eventually(lambda: desired(publishing) == 0, "it is known that nothing is left")
        told.tell(1)
        await eventually(lambda: desired(publishing) == 1, "somebody is wanted")
        told.tell(0)
        await eventually(lambda: not told.fresh, "it has been heard")
        told.tell(1)
        await eventually(lambda: not told.fresh, "and that too")
        assert desired(publishing) == 1 and len(publishing._scaler.decisions) == 3


async def test_who_waits_is_woken(pods: dict[str, PodReport]) -> None:
    """By each decision, whether it changes anything or not."""
    told = Told()
    async with running(made(told)) as publishing:
        woken = anyio.Event()

        async def wait() -> None:
            await publishing.changed()
            woken.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            told.tell(1)
            with anyio.fail_after(30):
                await woken.wait()
        assert desired(publishing) == 1


async def test_rounds_go_on(pods: dict[str, PodReport], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that comes is seen in the next, at least a second later."""
    monkeypatch.setattr(publishing, "ROUND_SECONDS", 0.0)
    told = Told()
    told.tell(5)
    async with running(made(told)) as published:
        assert published.latest is not None and published.latest.replicas == 0
        pods["1"] = pod("a")
        await eventually(lambda: published.latest and published.latest.ready == 1, "it is seen")


async def test_a_worker_that_cannot_be_imported_ends_it(pods: dict[str, PodReport]) -> None:
    """Nothing will ever be known, and whoever started it should see that."""
    with pytest.raises(ExceptionGroup) as raised:
        await made(Told(fault="no module named orders")).run()
    assert raised.group_contains(ConfigError, match="no module named orders")


def test_the_governor_is_left_out_and_a_policy_needed() -> None:
    """Whoever scales by the number damps it."""
    told = Told(policy=Governor(Drain()))
    assert isinstance(made(told)._policy.policy, Drain)
    with pytest.raises(ConfigError, match="no scaling policy"):
        made(Told(policy=None))


def test_what_is_learnt_outlives_a_restart(tmp_path: Path) -> None:
    """A pod that does 50 a second at half its slots does 100; another scaler begins with that, and with no pods at all."""
    file = tmp_path / "state.json"
    told = Told()
    told.tell(0)
    first = made(told, file)
    first.pods.take(["1"], {"1": pod("a", rate=50.0, start_s=4.0)}, 0.0)
    first._learn()
    assert json.loads(file.read_text()) == {
        "worker": "orders",
        "true_rate": 100.0,
        "best_rate": None,
        "start_s": 4.0,
    }
    second = made(told, file)
    second.pods.take([], {}, 0.0)
    shown = second._snapshot()
    assert (shown.true_rate, shown.start_s, shown.replicas) == (100.0, 4.0, 0)


def test_what_comes_is_what_is_more_and_what_pods_have_settled() -> None:
    """100 more within 10 s, and 300 that pods did meanwhile, are 40 a second."""
    told = Told()
    publishing = made(told)
    now = time.monotonic()
    told.tell(100, now=now - 10)
    publishing.pods.take(["1"], {"1": pod("a", 1000)}, now - 10)
    publishing._learn()
    told.tell(200, now=now)
    publishing.pods.take(["1"], {"1": pod("a", 1300)}, now)
    publishing._learn()
    (queue,) = publishing._snapshot().queues
    assert [queue.arrival_rate, queue.ack_rate] == pytest.approx([40.0, 30.0])


def test_a_round_that_lacks_a_pod_makes_no_rate() -> None:
    """What it did meanwhile would be missing from what came."""
    told = Told()
    publishing = made(told)
    now = time.monotonic()
    told.tell(100, now=now - 10)
    publishing.pods.take(["1"], {"1": pod("a", 1000)}, now - 10)
    publishing._learn()
    told.tell(100, now=now)
    publishing.pods.take(["1"], {}, now)
    publishing._learn()
    assert publishing._snapshot().queues[0].arrival_rate is None


# -- over HTTP -----------------------------------------------------------------------------------------------------


class Answers:
    """A publisher that listens, in this thread's place."""

    def __init__(self, **more: Any) -> None:
        self.told = Told()
        self.publishing = made(self.told, **more)
        _, self.port = self.publishing.monitor._server.open("127.0.0.1", 0)

    def decide(self, *pods: PodReport) -> None:
        """Decide by what was told and who is there."""
        self.publishing.pods.take(
            [str(n) for n in range(len(pods))], {str(n): p for n, p in enumerate(pods)}, 0.0
        )
        self.publishing._decide()
        self.publishing._show()


@pytest.fixture
def answers() -> Iterator[Callable[..., Answers]]:
    """Listen, and end."""
    made: list[Answers] = []

    def make(**more: Any) -> Answers:
        made.append(Answers(**more))
        return made[-1]

    yield make
    for one in made:
        one.publishing.monitor.close()


def test_the_json_is_what_keda_reads(answers: Any) -> None:
    """200 with a number, 503 without; keys without dots; another worker is not here."""
    one = answers()
    assert get(one.port, "/v1/scaling/orders")[0] == 503
    one.told.tell(50, 3)
    one.decide(pod("a"), pod("b"))
    status, body = get(one.port, "/v1/scaling/orders")
    said = json.loads(body)
    assert status == 200 and not any("." in key for key in said)
    assert (said["worker"], said["desired"], said["active"]) == ("orders", 2, True)
    assert (said["backlog"], said["in_flight"], said["confidence"]) == (50, 3, "stale")
    assert said["observed_at"].endswith("Z")
    one.told.tell(None)
    one.decide(pod("a"), pod("b"))
    status, body = get(one.port, "/v1/scaling/orders")
    assert (status, json.loads(body)["desired"], json.loads(body)["confidence"]) == (503, None, "unknown")
    assert get(one.port, "/v1/scaling/refunds")[0] == 404
    assert json.loads(get(one.port, "/v1/scaling")[1]) == {"workers": ["orders"]}


def test_a_scaler_is_well_without_pods(answers: Any) -> None:
    """Ready once the worker is known, whether there are pods or a broker, or not."""
    one = answers()
    one.decide()
    assert (get(one.port, "/livez")[0], get(one.port, "/readyz")[0]) == (200, 503)
    one.told.tell(None)
    one.decide()
    assert [get(one.port, path)[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 200, 200]


def test_metrics_and_decisions_are_there(answers: Any) -> None:
    """The queue's, which in a cluster the scaler alone should say, and why there are as many as there are."""
    one = answers()
    one.told.tell(50)
    one.decide(pod("a"))
    metrics = get(one.port, "/metrics")[1]
    assert "pythia_scaling_desired_replicas 1" in metrics
    assert 'pythia_worker_replicas{state="ready"} 1' in metrics
    assert 'messaging_destination_name="orders",messaging_system="test"} 50' in metrics
    said = json.loads(get(one.port, "/scaling")[1])
    assert said["policy"] == "drain" and said["decisions"][-1]["after"] == 1
    assert get(one.port, "/report")[0] == 404


def test_numbers_are_for_whoever_knows_the_token(answers: Any) -> None:
    """By either header that KEDA can send; probes are for everybody."""
    one = answers(token="secret")
    one.told.tell(50)
    one.decide(pod("a"))

    def ask(headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
        connection.request("GET", "/v1/scaling/orders", headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status

    right = [{"X-API-KEY": "secret"}, {"Authorization": "Bearer secret"}]
    wrong = [{}, {"X-API-KEY": "Secret"}, {"Authorization": "Bearer "}, {"Authorization": "secrets"}]
    assert [ask(headers) for headers in right] == [200, 200]
    assert [ask(headers) for headers in wrong] == [401] * 4
    assert get(one.port, "/livez")[0] == 200 and get(one.port, "/v1/scaling")[0] == 401
    assert "secret" not in repr(one.publishing.monitor)
