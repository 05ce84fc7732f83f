"""The ScaledObject that is printed: YAML that says what was asked for, with the damping of Kubernetes' autoscaler."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import ConfigError
from pythia_metrics.scaledobject import Wish, as_yaml, scaled_object
from pythia_metrics.scaling_commands import _name as default_name
from tests.supervisor.running import COMMAND, environment

WORKER = {
    "name": "orders",
    "system": "kafka",
    "destination": "orders,refunds",
    "group": "g",
    "drain_timeout": 30.0,
}


def made(worker: dict[str, Any] | None = None, **wishes: Any) -> tuple[str, dict[str, Any]]:
    """Return the text, and what a reader of YAML makes of it."""
    wish = Wish(**{"name": "orders", "deployment": "order-processor", **wishes})
    text = scaled_object(wish, [worker or WORKER])
    return text, yaml.safe_load(text)


def test_a_trigger_of_the_metrics_api() -> None:
    """Desired replicas with a target of one each; active is what is above 0."""
    text, said = made(least=0, most=20, namespace="shop", scaler="pythia-scaler.shop:8080")
    spec = said["spec"]
    assert said["metadata"] == {"name": "orders", "namespace": "shop"}
    assert spec["scaleTargetRef"] == {"name": "order-processor"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 20)
    assert spec["triggers"] == [
        {
            "type": "metrics-api",
            "name": "pythia",
            "metricType": "AverageValue",
            "metadata": {
                "url": "http://pythia-scaler.shop:8080/v1/scaling/orders",
                "valueLocation": "desired",
                "targetValue": "1",
                "activationTargetValue": "0",
            },
        }
    ]
    assert "terminationGracePeriodSeconds: 45" in text and "from 11 pods on" in text


def test_a_trigger_that_is_pushed() -> None:
    """It names the worker, since a scaler may speak for one only."""
    _, said = made(trigger="external-push", scaler="pythia-scaler:9091")
    assert said["spec"]["triggers"][0]["metadata"] == {
        "scalerAddress": "pythia-scaler:9091",
        "worker": "orders",
    }


def test_damping_is_the_autoscalers() -> None:
    """Out by four or to twice as many in 15 s, in to the most of five minutes by half a minute; exact where it can be."""
    _, said = made(scale_down_window=120, exact=True)
    behavior = said["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 120
    assert behavior["scaleUp"]["tolerance"] == "0" and behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert {(p["type"], p["value"]) for p in behavior["scaleUp"]["policies"]} == {
        ("Pods", 4),
        ("Percent", 100),
    }
    assert "tolerance" not in str(made()[1])


def test_native_triggers_have_computed_thresholds() -> None:
    """``rate x 2.5 s x 0.7``: one trigger for each topic, and KEDA's default where no rate is known."""
    _, said = made(trigger="native", rate=20.0)
    kinds = [
        (t["type"], t["metadata"]["topic"], t["metadata"]["lagThreshold"]) for t in said["spec"]["triggers"]
    ]
    assert kinds == [("kafka", "orders", "35"), ("kafka", "refunds", "35")]
    text, said = made(trigger="native")
    assert said["spec"]["triggers"][0]["metadata"]["lagThreshold"] == "10" and "--rate" in text
    _, rabbit = made({**WORKER, "system": "rabbitmq", "destination": "tasks"}, trigger="native", rate=20.0)
    assert rabbit["spec"]["triggers"][0]["metadata"] == {
        "hostFromEnv": "RABBITMQ_URL",
        "queueName": "tasks",
        "mode": "QueueLength",
        "value": "35",
    }
    _, redis = made({**WORKER, "system": "redis", "destination": "events"}, trigger="native", rate=0.01)
    assert redis["spec"]["triggers"][0]["metadata"]["lagCount"] == "1"
    with pytest.raises(ConfigError, match="no trigger of its own"):
        made({**WORKER, "system": "memory"}, trigger="native")


@given(
    st.dictionaries(st.from_regex(r"key[a-z]*", fullmatch=True), st.text() | st.lists(st.text()), min_size=1)
)
def test_any_text_stays_what_it_is(tree: dict[str, Any]) -> None:
    """What YAML would take for a truth value, a number or a comment is quoted."""
    assert yaml.safe_load(as_yaml(tree)) == tree


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("worker.py", "worker"),
        ("shop/order_worker.py", "order-worker"),
        ("shop/worker.py:OrderProcessor", "order-processor"),
        ("shop.orders", "orders"),
        ("shop.orders:Orders", "orders"),
    ],
)
def test_a_name_is_one_that_kubernetes_takes(target: str, name: str) -> None:
    """Of the class if one is given, else of the file."""
    assert default_name(target) == name


def printed(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, in a process of its own since it sets up logging."""
    command = [*COMMAND, "scaling", "scaledobject", str(file), *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment(), timeout=100
    )


def test_the_command_asks_the_worker_file(tmp_path: Path) -> None:
    """Its drain decides on the grace, its source on a native trigger; no broker is needed."""
    file = tmp_path / "orders.py"
    file.write_text(
        "from pythia import Worker\nfrom pythia.brokers.redis import RedisStreamsConsumer\n"
        "from pythia.config import WorkerConfig\n\n"
        "class Orders(Worker):\n"
        '    source = RedisStreamsConsumer("orders", consumer_group="g", url="redis://127.0.0.1:1/0")\n'
        "    config = WorkerConfig(drain_timeout=50)\n\n"
        "    async def process(self, message):\n        pass\n"
    )
    result = printed(file, "--trigger", "native", "--rate", "20")
    assert result.returncode == 0, result.stderr
    assert "terminationGracePeriodSeconds: 65" in result.stdout
    trigger = yaml.safe_load(result.stdout)["spec"]["triggers"][0]
    assert (trigger["type"], trigger["metadata"]["lagCount"]) == ("redis-streams", "35")


def test_a_worker_that_cannot_be_imported_is_said(tmp_path: Path) -> None:
    """In the words of whoever imported it."""
    file = tmp_path / "orders.py"
    file.write_text("import nothing_of_that_name\n")
    result = printed(file)
    assert result.returncode == 1 and "nothing_of_that_name" in result.stderr
