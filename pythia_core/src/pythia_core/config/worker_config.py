"""What a worker's author says in code: a frozen value that holds only what was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal

import attrs

from pythia_core.codecs import Codec
from pythia_core.config.fields import FIELDS, GROUPS, LogFormat, LogLevel, fit
from pythia_core.contracts import Middleware, ScalingPolicy, Sink, Telemetry
from pythia_core.errors import ConfigError
from pythia_core.nearest import did_you_mean
from pythia_core.settings import BrakePolicy, Limits, Order, RetryPolicy

__all__ = ["UNSET", "Unset", "WorkerConfig"]

CodecName = Literal["json", "strict-json", "text", "bytes"]


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset.UNSET
"""Nothing was said, which is not the same as None: ``dead_letter=None`` means that there is none."""


@attrs.frozen(kw_only=True, repr=False)
class WorkerConfig:
    """Settings of a worker; what is left out comes from the environment, a file, or the defaults.

    Numbers are checked here, so that an error points at the line that is wrong.

    Args:
        batch_size: most messages of one fetch, and of one ``process_batch`` (500).
        batch_timeout: seconds; how long a batch waits for more, and how often work done is settled (1.0).
        max_memory_mb: resident memory in MiB at which the process drains and is replaced; None for no bound (None).
        max_cpu_percent: of the processors' time that this process may use, at most 100; while more is used, by whomever, fewer
            messages are worked on at once. None for no bound (None).
        max_connections: the most connections to brokers that the worker holds; one that needs more does not start. On Kafka it counts
            clients, each of which connects to every broker it needs (50).
        max_concurrent_tasks: how many messages are processed at once (20).
        order: ``key``, ``partition`` or ``none``; None leaves it to the source (None).
        retry: how often and when a failed message is tried again; a :class:`RetryPolicy`, or a mapping of some of its
            fields.
        brake: when failures are taken for an outage, which costs no message its attempts; a :class:`BrakePolicy`, or a
            mapping of some of its fields.
        dead_letter: the sink for messages that cannot be processed; None stops the partition instead. Left out, it is
            the source's natural place, such as the topic "orders.dlq".
        handler_timeout: seconds one message may take; None for ever (None).
        drain_timeout: seconds a stop may take from its first step to its last (25).
        limits: bounds on what is in flight; :class:`Limits`, or a mapping of some of its fields.
        max_hold: seconds a failing message may hold up its partition before it is dead-lettered (300).
        middleware: around every call of ``process``; names of registered ones are allowed.
        telemetry: told of what the worker does; names of registered ones are allowed.
        scaling: the policy that decides how many processes there are, or its registered name.
        codec: turns bodies into values; an object, or ``json``, ``strict-json``, ``text``, ``bytes`` (``json``). Of a list,
            in text ``json,text``, a message's ``content-type`` chooses, and the first takes messages without one.
        body_type: the class that bodies are made into; left out, they are what the codec returns.
        log_level: ``debug``, ``info``, ``warning``, ``error`` or ``critical`` (``info``).
        log_format: ``text`` for people or ``json`` for machines (``text``).
        uvloop: True to run on uvloop, if it is installed (False).
        gc_threshold: new objects after which Python's youngest ones are collected, in a process that is the worker's own
            (20,000); 0 leaves the garbage collector as it is.

    Raises:
        ConfigError: if a value is out of bounds.
    """

    batch_size: int | Unset = UNSET
    batch_timeout: float | Unset = UNSET
    max_memory_mb: int | Unset | None = UNSET
    max_cpu_percent: float | Unset | None = UNSET
    max_connections: int | Unset = UNSET
    max_concurrent_tasks: int | Unset = UNSET
    order: Order | Unset | None = UNSET
    retry: RetryPolicy | Mapping[str, Any] | Unset = UNSET
    brake: BrakePolicy | Mapping[str, Any] | Unset = UNSET
    dead_letter: Sink | Unset | None = UNSET
    handler_timeout: float | Unset | None = UNSET
    drain_timeout: float | Unset = UNSET
    limits: Limits | Mapping[str, Any] | Unset = UNSET
    max_hold: float | Unset = UNSET
    middleware: Sequence[Middleware | str] | Unset = UNSET
    telemetry: Sequence[Telemetry | str] | Unset = UNSET
    scaling: ScalingPolicy | str | Unset | None = UNSET
    codec: Codec | CodecName | Sequence[Codec | CodecName] | Unset = UNSET
    body_type: Any = UNSET
    log_level: LogLevel | Unset = UNSET
    log_format: LogFormat | Unset = UNSET
    uvloop: bool | Unset = UNSET
    gc_threshold: int | Unset = UNSET

    def __attrs_post_init__(self) -> None:
        for name, value in self.plain().items():
            fit(name, value, "code")

    def given(self) -> dict[str, Any]:
        """Return what was given, by name."""
        named = {name: getattr(self, name) for name in attrs.fields_dict(WorkerConfig)}
        return {name: value for name, value in named.items() if value is not UNSET}

    def plain(self) -> dict[str, Any]:
        """Return the plain settings given, groups taken apart: ``retry.attempts``."""
        taken: dict[str, Any] = {}
        for name, value in self.given().items():
            if name in GROUPS:
                taken.update(_apart(name, value))
            elif name in FIELDS:
                taken[name] = value
        return taken

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.given().items())
        return f"WorkerConfig({said})"


def _apart(group: str, value: Any) -> dict[str, Any]:
    """Return the fields of a group by their full names; an object gives all of them, a mapping those it has."""
    fields = attrs.fields_dict(GROUPS[group])
    if isinstance(value, GROUPS[group]):
        return {f"{group}.{name}": getattr(value, name) for name in fields}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{group} is {value!r} (code); it must be a {GROUPS[group].__name__} or a mapping")
    for name in value:
        if name not in fields:
            raise ConfigError(f"{group} has no {name!r} (code); {did_you_mean(name, fields)}")
    return {f"{group}.{name}": item for name, item in value.items()}
