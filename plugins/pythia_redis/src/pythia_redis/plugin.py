"""What this plugin adds to Pythia. Classes are imported within the functions, so that listing plugins is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pythia_core import hookimpl

if TYPE_CHECKING:
    from pythia_core import Sink, Source


@hookimpl
def pythia_register_sources() -> Mapping[str, type[Source]]:
    """Add the source ``redis``."""
    from pythia_redis.source import RedisStreamsConsumer

    return {"redis": RedisStreamsConsumer}


@hookimpl
def pythia_register_sinks() -> Mapping[str, type[Sink]]:
    """Add the sink ``redis``."""
    from pythia_redis.producer import RedisStreamsProducer

    return {"redis": RedisStreamsProducer}
