"""The page about Kubernetes: its YAML is YAML, its commands are ours, and what has to fit together does."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pythia_core.settings import Settings
from pythia_metrics.commands import scaling
from pythia_metrics.scaledobject import GRACE

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
THINGS = [thing for block in BLOCKS for thing in yaml.safe_load_all(block)]


def thing(kind: str, name: str) -> Any:
    """Return one thing of the page."""
    return next(one for one in THINGS if (one["kind"], one["metadata"]["name"]) == (kind, name))


def test_everything_is_there() -> None:
    """Five things, and one more where nobody has KEDA."""
    assert [one["kind"] for one in THINGS] == ["Service", "Deployment"] * 2 + ["HorizontalPodAutoscaler"]


@pytest.mark.parametrize("one", THINGS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_each_is_what_kubernetes_takes(one: dict[str, Any]) -> None:
    """By its own fields, and no others."""
    kubernetes_validate.validate(one, "1.34", strict=True)


def test_the_grace_is_what_is_advised() -> None:
    """A drain as it is by default, and what comes after it."""
    pod = thing("Deployment", "orders")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == Settings().drain_timeout + GRACE


@pytest.mark.parametrize("name", ["orders", "pythia-scaler"])
def test_labels_and_ports_fit(name: str) -> None:
    """A Service finds its pods, and a probe a port that its container has."""
    service, deployment = thing("Service", name)["spec"], thing("Deployment", name)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == service["selector"] == deployment["selector"]["matchLabels"]
    (container,) = deployment["template"]["spec"]["containers"]
    command = " ".join(container["command"])
    for probe in ("livenessProbe", "readinessProbe"):
        port = container[probe]["httpGet"]["port"]
        number = {"monitor": 9464}.get(port, port)
        assert f"0.0.0.0:{number}" in command and number in [one["port"] for one in service["ports"]]


def test_the_scaler_is_started_by_words_that_it_knows() -> None:
    """Each option of the page is one of the command."""
    (container,) = thing("Deployment", "pythia-scaler")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["pythia", "scaling", "serve"]
    serve = scaling.commands["serve"]
    serve.make_context("serve", list(container["command"][3:]))
    scaledobject = next(line for line in PAGE.read_text().splitlines() if "scaling scaledobject" in line)
    scaling.commands["scaledobject"].make_context("scaledobject", scaledobject.split()[3:])
