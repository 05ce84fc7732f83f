"""The plugin that is built in. It uses the same door as strangers' plugins, so that the door is known to be wide enough."""

from __future__ import annotations

from collections.abc import Mapping

from pythia_core.contracts import Sink, Source
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
