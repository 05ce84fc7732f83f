"""What this plugin adds to Pythia. Classes are imported within the functions, so that listing plugins is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pythia_core import hookimpl

if TYPE_CHECKING:
    from pythia_core import Sink, Source


@hookimpl
def pythia_register_sources() -> Mapping[str, type[Source]]:
    """Add the source ``rabbitmq``."""
    from pythia_rabbitmq.source import RabbitMQConsumer

    return {"rabbitmq": RabbitMQConsumer}


@hookimpl
def pythia_register_sinks() -> Mapping[str, type[Sink]]:
    """Add the sink ``rabbitmq``."""
    from pythia_rabbitmq.producer import RabbitMQProducer

    return {"rabbitmq": RabbitMQProducer}
