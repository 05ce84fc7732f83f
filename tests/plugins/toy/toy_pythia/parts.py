"""One class for each contract, as small as the contract allows."""

from collections.abc import Sequence
from typing import Any

import attrs

from pythia_core import (
    Middleware,
    Output,
    Owner,
    Recommendation,
    Secret,
    Sink,
    Snapshot,
    Source,
    Subscription,
    Telemetry,
    WriteResult,
)


@attrs.frozen(kw_only=True)
class ToySource(Source):
    """Reads nothing."""

    count: int
    password: Secret | None = None

    @property
    def name(self) -> str:
        """Say what it would read."""
        return f"toys {self.count}"

    async def subscribe(self, owner: Owner) -> Subscription:
        """Refuse."""
        raise NotImplementedError


@attrs.define(eq=False)
class ToySink(Sink):
    """Writes nowhere."""

    box: str = "box"

    @property
    def name(self) -> str:
        """Say where it would write."""
        return self.box

    async def write(self, outputs: Sequence[Output]) -> WriteResult:
        """Confirm all that says so in its body."""
        return WriteResult([index for index, output in enumerate(outputs) if b"bad" not in output.value])


class ToyMiddleware(Middleware):
    """Does nothing."""

    def __init__(self, level: int = 1) -> None:
        self.level = level


class ToyTelemetry(Telemetry):
    """Hears nothing."""


@attrs.frozen
class ToyPolicy:
    """Wants as many as it was told."""

    replicas: int = 1

    def decide(self, snapshot: Snapshot, state: dict[str, Any]) -> Recommendation:
        """Recommend them."""
        return Recommendation(replicas=self.replicas, reason="toy")
