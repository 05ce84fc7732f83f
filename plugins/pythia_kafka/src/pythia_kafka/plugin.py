"""What this plugin adds to Pythia. Classes are imported within the functions, so that listing plugins is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pythia_core import hookimpl

if TYPE_CHECKING:
    from pythia_core import Sink, Source


@hookimpl
def pythia_register_sources() -> Mapping[str, type[Source]]:
    """Add the source ``kafka``."""
    from pythia_kafka.source import KafkaConsumer

    return {"kafka": KafkaConsumer}


@hookimpl
def pythia_register_sinks() -> Mapping[str, type[Sink]]:
    """Add the sink ``kafka``."""
    from pythia_kafka.producer import KafkaProducer

    return {"kafka": KafkaProducer}
