"""The hooks: every way in which a plugin adds to Pythia, on two screens.

A plugin is a module, called ``plugin.py`` by custom, that an entry point of the group ``pythia`` names::

    [project.entry-points.pythia]
    nats = "pythia_nats.plugin"

It implements any of the six hooks below as functions of the same name, marked with ``hookimpl``::

    from pythia_core import hookimpl

    @hookimpl
    def pythia_register_sources():
        from pythia_nats.consumer import NatsConsumer

        return {"nats": NatsConsumer}

All six take nothing, are plain functions, and return what the plugin adds. When they fire::

    pythia run, pythia check          pythia --help, plugins list      a message
      |                                 |                                |
      | import the plugins allowed      | import the plugins allowed     | nothing: no hook is called
      | sources, sinks, middleware,     | commands                       | once messages flow
      | scaling policies, telemetry     |
      v                                 v

Each is called once in a process's start. Import classes inside the functions, so that listing plugins stays cheap, and
let what a hook returns be named in lower case: ``[a-z][a-z0-9_-]*``. A name that two plugins return is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from pythia_core.contracts import Middleware, ScalingPolicy, Sink, Source, Telemetry

__all__ = [
    "pythia_register_commands",
    "pythia_register_middleware",
    "pythia_register_scaling_policies",
    "pythia_register_sinks",
    "pythia_register_sources",
    "pythia_register_telemetry",
]


def pythia_register_sources() -> Mapping[str, type[Source]]:
    """Return the sources that configuration files may name: ``[worker.source] kind = "nats"``.

    Each is an attrs class that implements :class:`~pythia_core.Source`; its fields are the options the file may set.
    Code that imports the class itself needs no hook.

    Called once at the start of ``run``, ``check`` and ``config``, before a configuration file is read.

    Example::

        @hookimpl
        def pythia_register_sources():
            from pythia_nats.consumer import NatsConsumer

            return {"nats": NatsConsumer}
    """
    raise NotImplementedError


def pythia_register_sinks() -> Mapping[str, type[Sink]]:
    """Return the sinks that configuration files and ``pythia send KIND`` may name.

    Each is an attrs class that implements :class:`~pythia_core.Sink`; its fields are the options.

    Called once at the start of ``run``, ``check``, ``config`` and ``send``.

    Example::

        @hookimpl
        def pythia_register_sinks():
            from pythia_nats.producer import NatsProducer

            return {"nats": NatsProducer}
    """
    raise NotImplementedError


def pythia_register_middleware() -> Mapping[str, Callable[..., Middleware]]:
    """Return the middleware that configuration files may name: ``middleware = ["rate-limit"]``.

    The value is a :class:`~pythia_core.Middleware` class or a function that makes one; options from the file are passed
    by name. The order of a chain is that of phases, then of configuration, never that of discovery.

    Called once at the start of ``run``, ``check`` and ``config``.

    Example::

        @hookimpl
        def pythia_register_middleware():
            from pythia_limits.rate import RateLimit

            return {"rate-limit": RateLimit}
    """
    raise NotImplementedError


def pythia_register_scaling_policies() -> Mapping[str, Callable[..., ScalingPolicy]]:
    """Return the scaling policies that ``pythia run --policy NAME`` and configuration files may name.

    The value is a class or a function that makes an object with ``decide``, see :class:`~pythia_core.ScalingPolicy`.

    Called once at the start of ``run``, ``check`` and ``config``.

    Example::

        @hookimpl
        def pythia_register_scaling_policies():
            from pythia_night.policy import Nightly

            return {"nightly": Nightly}
    """
    raise NotImplementedError


def pythia_register_telemetry() -> Mapping[str, Callable[..., Telemetry]]:
    """Return the telemetry that configuration files may name: ``telemetry = ["statsd"]``.

    The value is a :class:`~pythia_core.Telemetry` class or a function that makes one; options from the file are passed
    by name.

    Called once at the start of ``run``, ``check`` and ``config``.

    Example::

        @hookimpl
        def pythia_register_telemetry():
            from pythia_statsd.client import Statsd

            return {"statsd": Statsd}
    """
    raise NotImplementedError


def pythia_register_commands() -> Sequence[click.Command]:
    """Return commands to add to the ``pythia`` command line. A command cannot take the place of one of Pythia's own.

    Called once when the command line shows its help or is asked for a command that is not its own.

    Example::

        @hookimpl
        def pythia_register_commands():
            from pythia_nats.command import streams

            return [streams]        # pythia streams
    """
    raise NotImplementedError
