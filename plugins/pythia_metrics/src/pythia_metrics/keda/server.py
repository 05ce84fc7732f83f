"""Serves KEDA's external scaler contract over gRPC: the number by asking, activity also by a push.

Invariants, each with a test:

- X1. Unknown is an error, UNAVAILABLE, and never a number: KEDA then holds what there is.
- X2. A stream says the state at once, whenever it is dialled, then each change of it; while the state is unknown it is
  silent and stays open, since to dial anew takes KEDA up to a minute.
- X3. Whole numbers and fractions are both filled: KEDA reads the fraction if it is above 0, and before 2.17 the whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import grpc
import grpc.aio

from pythia_core import ConfigError
from pythia_metrics.desire import Desire
from pythia_metrics.keda.contract import METHODS, SERVICE, message
from pythia_metrics.publishing import Publishing

__all__ = ["ExternalScaler", "metric_name"]

STREAMS = 100  # calls at once; each ScaledObject keeps one open
GRACE_SECONDS = 1.0
OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second server would share the port, and each get half of the calls
    ("grpc.max_receive_message_length", 1 << 16),
    ("grpc.keepalive_time_ms", 60_000),  # a client that is gone without a word is noticed
    ("grpc.keepalive_timeout_ms", 20_000),
)
TARGET = 1

Context = Any  # grpc.aio.ServicerContext of messages whose classes are made when the contract is read


def metric_name(worker: str) -> str:
    """Return what the metric is called: letters that KEDA leaves as they are."""
    return "pythia-" + (re.sub(r"[^a-z0-9]+", "-", worker.lower()).strip("-") or "worker")


@attrs.define(eq=False)
class ExternalScaler:
    """Answers KEDA.

    Args:
        publishing: knows what to answer.
    """

    publishing: Publishing
    _server: grpc.aio.Server | None = attrs.field(default=None, init=False)

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port: 0 is any that is free.

        Raises:
            ConfigError: if the address cannot be listened on.
        """
        server = grpc.aio.server(maximum_concurrent_rpcs=STREAMS, options=OPTIONS)
        server.add_generic_rpc_handlers((self._handlers(),))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            raise ConfigError(
                f"cannot listen on {address} for KEDA: give another port, or end what listens there"
            ) from None
        await server.start()
        self._server = server
        return bound

    async def aclose(self) -> None:
        """End, streams too: KEDA dials anew."""
        if self._server is not None:
            await self._server.stop(GRACE_SECONDS)

    def _handlers(self) -> grpc.GenericRpcHandler:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        kinds: dict[str, tuple[Callable[..., Any], Any]] = {
            "IsActive": (unary, self._is_active),
            "StreamIsActive": (stream, self._stream_is_active),
            "GetMetricSpec": (unary, self._metric_spec),
            "GetMetrics": (unary, self._metrics),
            "StreamMetricSpec": (stream, self._stream_metric_spec),
        }
        made = {}
        for name, (kind, method) in kinds.items():
            request, response = METHODS[name]
            made[name] = kind(
                method,
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(SERVICE, made)

    # -- the contract --------------------------------------------------------------------------------------------

    async def _is_active(self, reference: Any, context: Context) -> Any:
        await self._check(reference, context)
        return message("IsActiveResponse", result=(await self._known(context)).active)

    async def _stream_is_active(self, reference: Any, context: Context) -> AsyncIterator[Any]:
        await self._check(reference, context)
        said: bool | None = None
        while True:
            latest = self.publishing.latest
            if latest is not None and latest.active is not None and latest.active != said:
                said = latest.active
                yield message("IsActiveResponse", result=said)
                continue  # something else may be published while this is sent
            await self.publishing.changed()

    async def _metric_spec(self, reference: Any, context: Context) -> Any:
        await self._check(reference, context)
        return self._spec()

    async def _stream_metric_spec(self, reference: Any, context: Context) -> AsyncIterator[Any]:
        """Say it once: it never changes. An end of the stream would only have it dialled anew."""
        await self._check(reference, context)
        yield self._spec()
        while True:
            await self.publishing.changed()

    async def _metrics(self, request: Any, context: Context) -> Any:
        await self._check(request.scaledObjectRef, context)
        name = metric_name(self.publishing.name)
        if re.sub(r"^s\d+-", "", request.metricName) not in (name, ""):
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"there is no metric {request.metricName[:100]!r}, only {name}"
            )
        desired = (await self._known(context)).desired
        value = message(
            "MetricValue",
            metricName=request.metricName or name,
            metricValue=desired,
            metricValueFloat=float(desired or 0),
        )
        return message("GetMetricsResponse", metricValues=[value])

    # -- parts ---------------------------------------------------------------------------------------------------

    def _spec(self) -> Any:
        spec = message(
            "MetricSpec",
            metricName=metric_name(self.publishing.name),
            targetSize=TARGET,
            targetSizeFloat=float(TARGET),
        )
        return message("GetMetricSpecResponse", metricSpecs=[spec])

    async def _check(self, reference: Any, context: Context) -> None:
        """Refuse to speak for another worker than the one that the ScaledObject names, if it names one."""
        asked = reference.scalerMetadata.get("worker", self.publishing.name)
        if asked != self.publishing.name:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"there is no worker {asked[:100]!r} here, only {self.publishing.name!r}",
            )

    async def _known(self, context: Context) -> Desire:
        latest = self.publishing.latest
        if latest is None or latest.desired is None:
            why = "starting" if latest is None else latest.reason
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"how much is left is unknown: {why}")
            raise AssertionError("abort raises")
        return latest
