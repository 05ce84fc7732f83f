"""Every plain setting with its type and its bounds, as one table that all places where it can be said share.

Types and defaults are those of :class:`~pythia_core.settings.Settings`; only what a worker needs besides the engine's
settings (logs, the event loop) is declared here.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from pythia_core.config.values import Unfit, convert, describe
from pythia_core.errors import ConfigError
from pythia_core.secret import mask_url
from pythia_core.settings import BrakePolicy, Limits, RetryPolicy, Settings

__all__ = ["FIELDS", "GROUPS", "Field", "LogFormat", "LogLevel", "fit"]

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["text", "json"]

GROUPS: Mapping[str, type] = {"retry": RetryPolicy, "brake": BrakePolicy, "limits": Limits}
"""Settings that are groups of others: ``retry.attempts``, PYTHIA_RETRY_ATTEMPTS, ``[worker.retry] attempts``."""

_LEAST: Mapping[str, float] = {  # all others: above 0
    "retry.base": 0,
    "retry.factor": 1,
    "brake.base": 0,
    "brake.factor": 1,
    "drain_timeout": 0,
}

_MOST: Mapping[str, float] = {"max_cpu_percent": 100}


@attrs.frozen
class Field:
    """One setting.

    Args:
        name: ``batch_size``, or ``retry.attempts`` in a group.
        kind: its type.
        default: its value if nobody says any.
        least: the smallest number allowed, or None if it must be above 0.
        most: the largest number allowed, if there is one.
    """

    name: str
    kind: Any
    default: Any
    least: float | None = None
    most: float | None = None

    @property
    def variable(self) -> str:
        """The environment variable that sets it: ``PYTHIA_RETRY_ATTEMPTS``."""
        return f"PYTHIA_{self.name.upper().replace('.', '_')}"

    @property
    def allowed(self) -> str:
        """What may be said, in words: ``a whole number of at least 1``."""
        text = describe(self.kind)
        if self.least is not None:
            bound = f" of at least {self.least:g}"
        else:
            bound = " of at least 1" if "whole" in text else " above 0"
        if self.most is not None:
            bound += f" and at most {self.most:g}"
        return text.replace("number", f"number{bound}", 1)

    def accepts(self, value: Any) -> bool:
        """Tell whether a value of the right type lies within the bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        enough = value > 0 if self.least is None else value >= self.least
        return enough and (self.most is None or value <= self.most)


def _fields_of(kind: type, prefix: str = "") -> dict[str, Field]:
    kinds = typing.get_type_hints(kind)
    return {
        prefix + field.name: Field(
            prefix + field.name,
            kinds[field.name],
            field.default,
            _LEAST.get(prefix + field.name),
            _MOST.get(prefix + field.name),
        )
        for field in attrs.fields(kind)
        if field.name not in GROUPS
    }


FIELDS: Mapping[str, Field] = {
    **_fields_of(Settings),
    **_fields_of(RetryPolicy, "retry."),
    **_fields_of(BrakePolicy, "brake."),
    **_fields_of(Limits, "limits."),
    "log_level": Field("log_level", LogLevel, "info"),
    "log_format": Field("log_format", LogFormat, "text"),
    "uvloop": Field("uvloop", bool, False),
    "gc_threshold": Field("gc_threshold", int, 20_000, 0),
}


def fit(name: str, value: Any, origin: str) -> Any:
    """Return the value of a setting, converted and within its bounds.

    Raises:
        ConfigError: naming the setting, its value, where it came from and what is allowed.
    """
    field = FIELDS[name]
    try:
        converted = convert(value, field.kind)
    except Unfit:
        converted = math.nan  # which no bounds accept
    if not field.accepts(converted):
        raise ConfigError(f"{name} is {mask_url(repr(value))} ({origin}); it must be {field.allowed}")
    return converted
