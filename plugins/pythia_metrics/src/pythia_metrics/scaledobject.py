"""Makes a ScaledObject for KEDA: where the number comes from, and the damping that Kubernetes' autoscaler is to do.

It stands apart from what serves the number, since it is printed on a laptop and serves nothing. The text is YAML whose
strings are JSON's, which every YAML reader takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from pythia_core import ConfigError
from pythia_metrics.policies import RHO
from pythia_metrics.publishing_http import PATH

__all__ = ["GRACE", "Wish", "as_yaml", "scaled_object"]

GRACE = 15
"""Seconds past the drain that a pod needs: ``shutdown()``, connections, and the interpreter's end."""

COMMIT_HOLD = 2.5  # seconds for which work that is done still counts as lag, by default

Trigger = Literal["metrics-api", "external-push", "native"]


@attrs.frozen(kw_only=True)
class Wish:
    """What a ScaledObject is to be like.

    Args:
        name: of the ScaledObject, and what the scaler is asked for.
        deployment: what is scaled.
        namespace: where; None leaves that to kubectl.
        least, most: bounds.
        trigger: who says how many.
        scaler: host and port where ``pythia scaling serve`` answers; for ``external-push`` its gRPC port.
        scale_down_window: seconds for which fewer must do, which should outlast a lull between bursts.
        exact: Kubernetes is 1.35 or newer, so that its tolerance of 10 % can be turned off.
        rate: messages a second that one pod does, for thresholds of native triggers.
    """

    name: str
    deployment: str
    namespace: str | None = None
    least: int = 1
    most: int = 8
    trigger: Trigger = "metrics-api"
    scaler: str = "pythia-scaler:8080"
    scale_down_window: int = 300
    exact: bool = False
    rate: float | None = None


def scaled_object(wish: Wish, workers: Sequence[Mapping[str, Any]]) -> str:
    """Return it as YAML, with what else has to be so in comments.

    Args:
        wish: what it is to be like.
        workers: what a pod runs: ``system``, ``destination``, ``group`` and ``drain_timeout``.

    Raises:
        ConfigError: if there is no such trigger.
    """
    metadata: dict[str, Any] = {"name": wish.name}
    if wish.namespace is not None:
        metadata["namespace"] = wish.namespace
    made = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"name": wish.deployment},
            "pollingInterval": 10,
            "cooldownPeriod": 300,
            "minReplicaCount": wish.least,
            "maxReplicaCount": wish.most,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(wish)}},
            "triggers": _triggers(wish, workers),
        },
    }
    return "".join(f"# {line}\n" for line in _advice(wish, workers)) + as_yaml(made)


def _behavior(wish: Wish) -> dict[str, Any]:
    """Return the governor's own damping in the autoscaler's words; Pythia publishes raw numbers, so it is the only one."""
    up = [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]
    made: dict[str, Any] = {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": up},
        "scaleDown": {
            "stabilizationWindowSeconds": wish.scale_down_window,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }
    if wish.exact:
        made["scaleUp"]["tolerance"] = "0"
    return made


def _advice(wish: Wish, workers: Sequence[Mapping[str, Any]]) -> list[str]:
    drain = max((worker["drain_timeout"] for worker in workers), default=25.0)
    lines = [
        f"The pods of {wish.deployment} need terminationGracePeriodSeconds: {round(drain + GRACE)}",
        f"(a drain of {drain:g} s and {GRACE} s to end), and no preStop hook: SIGTERM drains.",
    ]
    if wish.least == 0:
        lines.append("From one pod to none KEDA does not ask the autoscaler: see cooldownPeriod.")
    if not wish.exact:
        lines.append(
            "Before Kubernetes 1.35 a change of less than 10 % is none: from 11 pods on, +1 is not made."
        )
    if wish.trigger == "native" and wish.rate is None:
        lines.append(
            "The thresholds are KEDA's defaults: --rate, messages a second of one pod, computes them."
        )
    return lines


# -- triggers --------------------------------------------------------------------------------------------------------


def _triggers(wish: Wish, workers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if wish.trigger == "metrics-api":
        return [_metrics_api(wish)]
    if wish.trigger == "external-push":
        return [_external_push(wish)]
    return [trigger for worker in workers for trigger in _native(worker, wish.rate)]


def _metrics_api(wish: Wish) -> dict[str, Any]:
    return {
        "type": "metrics-api",
        "name": "pythia",
        "metricType": "AverageValue",
        "metadata": {
            "url": f"http://{wish.scaler}{PATH}/{wish.name}",
            "valueLocation": "desired",
            "targetValue": "1",
            "activationTargetValue": "0",
        },
    }


def _external_push(wish: Wish) -> dict[str, Any]:
    return {
        "type": "external-push",
        "name": "pythia",
        "metricType": "AverageValue",
        "metadata": {"scalerAddress": wish.scaler, "worker": wish.name},
    }


def _native(worker: Mapping[str, Any], rate: float | None) -> list[dict[str, Any]]:
    """Return KEDA's own triggers for a source: no scaler of ours is needed, and no more than lag is seen."""
    threshold = None if rate is None else str(max(1, round(rate * COMMIT_HOLD * RHO)))
    destination, group = worker["destination"], worker["group"] or ""
    if worker["system"] == "kafka":
        topics = [topic for topic in destination.split(",") if not topic.startswith("/")]
        return [_trigger("kafka", _kafka(topic, group, threshold)) for topic in topics or [None]]
    if worker["system"] == "rabbitmq":
        queue = {"hostFromEnv": "RABBITMQ_URL", "queueName": destination, "mode": "QueueLength"}
        return [_trigger("rabbitmq", {**queue, "value": threshold or "20"})]
    if worker["system"] == "redis":
        stream = {"addressFromEnv": "REDIS_ADDRESS", "stream": destination, "consumerGroup": group}
        return [_trigger("redis-streams", {**stream, "lagCount": threshold or "5"})]
    raise ConfigError(
        f"KEDA has no trigger of its own that Pythia knows for a source of {worker['system']!r}, only for kafka, "
        "rabbitmq and redis; use --trigger metrics-api or external-push"
    )


def _kafka(topic: str | None, group: str, threshold: str | None) -> dict[str, str]:
    made = {"bootstrapServersFromEnv": "KAFKA_BOOTSTRAP_SERVERS", "consumerGroup": group}
    if topic is not None:  # without one KEDA takes all topics that the group has committed to
        made["topic"] = topic
    return {**made, "lagThreshold": threshold or "10", "offsetResetPolicy": "earliest"}


def _trigger(kind: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {"type": kind, "metricType": "AverageValue", "metadata": dict(metadata)}


# -- YAML ------------------------------------------------------------------------------------------------------------

PLAIN = re.compile(r"(?!(?i:y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9._/-]*")


PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
"""Two halves of a character, as JSON has them; YAML has it whole."""


def as_yaml(value: Any, indent: int = 0) -> str:
    """Return mappings, lists, strings and numbers as YAML, one thing a line."""
    space = "  " * indent
    if isinstance(value, Mapping):
        return "".join(f"{space}{key}:{_below(item, indent)}" for key, item in value.items())
    lines = []
    for item in value:
        text = as_yaml(item, indent + 1) if isinstance(item, Mapping) else f"{space}  {_scalar(item)}\n"
        lines.append(f"{space}- {text[len(space) + 2 :]}")
    return "".join(lines)


def _below(item: Any, indent: int) -> str:
    if isinstance(item, Mapping | list) and item:
        return "\n" + as_yaml(item, indent + 1)
    return f" {_scalar(item)}\n"


def _scalar(item: Any) -> str:
    if isinstance(item, str) and PLAIN.fullmatch(item):
        return item
    return PAIR.sub(_whole, json.dumps(item))


def _whole(pair: re.Match[str]) -> str:
    character = json.loads('"' + pair[0] + '"')
    return f"\\U{ord(character):08x}"
