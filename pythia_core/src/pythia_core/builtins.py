"""The plugin that is built in. It uses the same door as strangers' plugins, so that the door is known to be wide enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pythia_core.contracts import Middleware, ScalingPolicy, Sink, Source
from pythia_core.plugins import hookimpl


@hookimpl
def pythia_register_sources() -> Mapping[str, type[Source]]:
    """Return the source that reads within the process."""
    from pythia_core.brokers.memory import MemoryConsumer

    return {"memory": MemoryConsumer}


@hookimpl
def pythia_register_sinks() -> Mapping[str, type[Sink]]:
    """Return the sink that writes within the process."""
    from pythia_core.brokers.memory import MemoryProducer

    return {"memory": MemoryProducer}


@hookimpl
def pythia_register_middleware() -> Mapping[str, Callable[..., Middleware]]:
    """Return the middleware that can be made from what a file says."""
    from pythia_core.middleware import Deduplicate, HeaderFilter, LogContext, RateLimit

    return {
        "deduplicate": Deduplicate,
        "header-filter": HeaderFilter,
        "log-context": LogContext,
        "rate-limit": RateLimit,
    }


@hookimpl
def pythia_register_scaling_policies() -> Mapping[str, Callable[..., ScalingPolicy]]:
    """Return the policy that follows the worker's own word."""
    from pythia_core.by_worker import ByWorker

    return {"worker": ByWorker}
