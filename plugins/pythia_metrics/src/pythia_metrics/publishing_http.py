"""What ``pythia scaling serve`` answers over HTTP: the JSON that KEDA's metrics-api scaler reads, beside a monitor's own paths.

It stands apart from the monitor of processes, which it extends: metrics, decisions and probes are the same, but this one
is well whether there are pods or not.
"""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING

import attrs

from pythia_metrics.desire import Desire
from pythia_metrics.health import Facts
from pythia_metrics.monitor import MetricsMonitor
from pythia_metrics.server import Answer, Handler

if TYPE_CHECKING:
    from starlette.requests import Request

    from pythia_metrics.publishing import Publishing

__all__ = ["PATH", "PublishingMonitor"]

PATH = "/v1/scaling"
JSON = "application/json"


@attrs.define(eq=False)
class PublishingMonitor(MetricsMonitor):
    """Answers for a deployment.

    Args:
        token: what whoever asks for numbers has to know; empty for nothing.
    """

    token: str = attrs.field(default="", repr=False)
    publishing: Publishing | None = attrs.field(default=None, init=False)

    def routes(self) -> dict[str, Handler]:
        return {
            **super().routes(),
            "/report": lambda request: Answer("not here; see /\n", status=404),
            PATH: self._list,
            f"{PATH}/{{name}}": self._one,
        }

    def _list(self, request: Request) -> Answer:
        if not self._knows(request):
            return _stranger()
        name = self.publishing.name if self.publishing is not None else None
        return Answer(json.dumps({"workers": [name] if name is not None else []}), JSON)

    def _one(self, request: Request) -> Answer:
        if not self._knows(request):
            return _stranger()
        publishing, name = self.publishing, request.path_params["name"]
        if publishing is None or name != publishing.name:
            return Answer(f"no worker {name!r} here; see {PATH}\n"[:200], status=404)
        return answer(publishing.latest)

    def _knows(self, request: Request) -> bool:
        """Tell whether the token was given, in one of the two ways that KEDA has for one."""
        if not self.token:
            return True
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = request.headers.get("x-api-key") or bearer
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _facts(self) -> Facts:
        """Return a scaler's own state: it is ready once the worker's configuration is known, with pods or without."""
        known = self.publishing is not None and self.publishing.latest is not None
        ready = (
            known and self.publishing is not None and bool(self.publishing.lookout.observed(time.monotonic()))
        )
        itself = {"number": 0, "slot": 0, "state": "ready" if ready else "starting", "ready": ready}
        with self._lock:
            silence = time.monotonic() - self._shown
        return Facts({"children": [itself], "target": 1, "stopping": False}, silence, ready, {})


def answer(latest: Desire | None) -> Answer:
    """Return what is published; 503 while nobody knows how much is left, which holds what there is."""
    if latest is None:
        return Answer(json.dumps({"confidence": "unknown", "reason": "starting"}), JSON, status=503)
    body = json.dumps(attrs.asdict(latest))
    return Answer(body, JSON, status=503 if latest.desired is None else 200)


def _stranger() -> Answer:
    return Answer("the token is needed, as X-API-KEY or as Authorization: Bearer\n", status=401)
