"""The files for Docker, Kubernetes and Istio: valid by their schemas, and in step with what Pythia does.

They are not run: neither is there a cluster here, nor would one prove more of a file than its schema and these numbers.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudcoil.models.istio.networking.v1 import DestinationRule
from compose_spec import PyCompose
from kubernetes_validate import ValidationError, validate

from pythia_core.budget import MIB, memory_fault
from pythia_core.command.run import command as run
from pythia_core.settings import Settings
from pythia_core.supervisor.fleet import KILL_GRACE

DEPLOY = Path(__file__).parents[1] / "examples" / "deploy"
COMPOSE = ["compose.yml", "swarm.yml"]
KUBERNETES = "1.30"  # the oldest that is still in wide use; what is valid there is valid later
GRACE = Settings().drain_timeout + KILL_GRACE


def documents(file: str) -> list[dict[str, Any]]:
    """Return what a file of several documents holds."""
    return list(yaml.safe_load_all((DEPLOY / file).read_text()))


def of_kind(kind: str) -> Any:
    """Return the only document of a kind of the file for Kubernetes."""
    (found,) = [document for document in documents("kubernetes.yml") if document["kind"] == kind]
    return found


def workers(file: str) -> Iterator[dict[str, Any]]:
    """Yield the services of a file for Docker that run workers."""
    for service in documents(file)[0]["services"].values():
        if "pythia run" in str(service.get("command")):
            yield service


def listens_at(command: list[str]) -> str:
    """Return where a command listens, which has to be one that there is."""
    program, sub_command, *arguments = command
    assert (program, sub_command) == ("pythia", "run")
    with run.make_context("run", arguments) as context:
        return str(context.params["listen"])


@pytest.mark.parametrize("file", COMPOSE)
def test_files_for_docker_follow_the_compose_specification(file: str) -> None:
    """An unknown field or a wrong type would be an error."""
    text = (DEPLOY / file).read_text()
    PyCompose.from_yaml(text).validate()
    with pytest.raises(Exception, match="replicas"):
        PyCompose.from_yaml(re.sub(r"replicas: \d+", "replicas: many", text)).validate()


@pytest.mark.parametrize("file", COMPOSE)
def test_docker_waits_for_the_drain_and_asks_for_health(file: str) -> None:
    """What is stopped has time to drain, what is asked is where it listens, and what a worker may use fits."""
    for service in workers(file):
        assert float(service["stop_grace_period"].removesuffix("s")) >= GRACE
        assert listens_at(shlex.split(service["command"])) == "9464"
        assert service["healthcheck"]["test"] == "pythia health --quiet livez"
        limit = int(service["deploy"]["resources"]["limits"]["memory"].removesuffix("M")) * MIB
        assert memory_fault(int(service["environment"]["PYTHIA_MAX_MEMORY_MB"]), 1, limit) is None


@pytest.mark.parametrize("document", documents("kubernetes.yml"), ids=lambda document: document["kind"])
def test_kubernetes_would_take_it(document: dict[str, Any]) -> None:
    """By the schemas of its own API, strictly: an unknown field is an error."""
    validate(document, KUBERNETES, strict=True)
    with pytest.raises(ValidationError):
        validate({**document, "spec": {**document["spec"], "misspelt": 1}}, KUBERNETES, strict=True)


def test_kubernetes_waits_for_the_drain_and_asks_where_it_listens() -> None:
    """Each probe has the path that is meant for it, none of which asks a broker."""
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= GRACE
    (container,) = pod["containers"]
    host, _, port = listens_at(container["command"]).rpartition(":")
    assert (host, int(port)) == ("0.0.0.0", container["ports"][0]["containerPort"])
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startup": "/startupz",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in asked.values()} == {container["ports"][0]["name"]}
    (bound,) = [given["value"] for given in container["env"] if given["name"] == "PYTHIA_MAX_MEMORY_MB"]
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * MIB
    assert memory_fault(int(bound), 1, limit) is None


def test_the_autoscaler_owns_the_number_of_pods() -> None:
    """It scales the deployment, which names no number itself, by the bounds and shares of the user's guide."""
    deployment, scaler = of_kind("Deployment"), of_kind("HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (5, 50)
    shares = [metric["resource"]["target"]["averageUtilization"] for metric in scaler["metrics"]]
    assert shares == [70, 80]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels


def test_istio_would_take_it() -> None:
    """By the fields of its own API; a worker's connections fit."""
    (document,) = documents("istio.yml")
    rule = DestinationRule.model_validate(document, strict=False)
    assert rule.spec is not None
    assert rule.spec.traffic_policy is not None
    pool: Any = rule.spec.traffic_policy.connection_pool
    assert pool.tcp.max_connections >= Settings().max_connections
    document["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] = "many"
    with pytest.raises(ValueError, match="maxConnections"):
        DestinationRule.model_validate(document)
