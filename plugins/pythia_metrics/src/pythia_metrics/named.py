"""The policies by the names that configuration uses, each within a governor; what composes others names them in turn.

In a file: ``[worker.scaling] kind = "max"`` and ``policies = ["drain", { kind = "latency", hi = 20.0 }]``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from pythia_core import ConfigError, ScalingPolicy
from pythia_metrics.composing import Advice, Cap, Least, Most, Veto
from pythia_metrics.governor import Governor
from pythia_metrics.policies import Busy, Cpu, Drain, Lag, Latency, Memory
from pythia_metrics.schedule import Schedule, Window

__all__ = ["KINDS", "governed", "raw"]

NAMED: Final[Mapping[str, type]] = {
    "drain": Drain,
    "lag": Lag,
    "latency": Latency,
    "busy": Busy,
    "cpu": Cpu,
    "memory": Memory,
    "max": Most,
    "min": Least,
    "cap": Cap,
    "veto": Veto,
    "schedule": Schedule,
    "advice": Advice,
}
"""The raw policies."""

DAMPING: Final = tuple(name for name in attrs.fields_dict(Governor) if name != "policy")


def raw(said: Any) -> ScalingPolicy:
    """Return the policy that a name or a table describes, without a governor: that is around the whole.

    Raises:
        ConfigError: if it describes none.
    """
    table = {"kind": said} if isinstance(said, str) else said
    if not isinstance(table, Mapping) or table.get("kind") not in NAMED:
        raise ConfigError(
            f"{said!r} is no policy: it must be a name or a table with kind, one of {', '.join(NAMED)}"
        )
    return _make(NAMED[table["kind"]], {name: value for name, value in table.items() if name != "kind"})


def _make(kind: type, options: Mapping[str, Any]) -> ScalingPolicy:
    made = dict(options)
    if "policy" in made:
        made["policy"] = raw(made["policy"])
    for name in ("policies", "by"):
        if name in made:
            made[name] = [raw(one) for one in _listed(name, made[name])]
    if "windows" in made:
        made["windows"] = [Window(**one) for one in _listed("windows", made["windows"])]
    policy: ScalingPolicy = kind(**made)
    return policy


def _listed(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if not isinstance(value, Sequence) or not value:
        raise ConfigError(f"{name} is {value!r}; it must be a list")
    return value


def governed(kind: type) -> Callable[..., ScalingPolicy]:
    """Return what makes a policy of this kind within a governor; its options are those of both."""

    def make(**options: Any) -> ScalingPolicy:
        damping = {name: options.pop(name) for name in DAMPING if name in options}
        return Governor(_make(kind, options), **damping)

    own, damping = inspect.signature(kind).parameters, inspect.signature(Governor).parameters
    arguments = [*own.values(), *(damping[name] for name in DAMPING)]
    plain = [
        argument.replace(
            kind=argument.KEYWORD_ONLY,
            annotation=argument.annotation
            if argument.annotation in (*PLAIN, *map(str, PLAIN_NAMES))
            else Any,
        )
        for argument in arguments
    ]
    make.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
    make.__annotations__ = {argument.name: _evaluated(argument.annotation) for argument in plain}
    make.__name__ = make.__qualname__ = kind.__name__.lower()
    return make


PLAIN: Final = (int, float, str, bool)
PLAIN_NAMES: Final = ("int", "float", "str", "bool", "float | None")


def _evaluated(annotation: Any) -> Any:
    kinds: dict[Any, Any] = {
        "int": int,
        "float": float,
        "str": str,
        "bool": bool,
        "float | None": float | None,
    }
    return kinds.get(annotation, annotation)


KINDS: Final[Mapping[str, Callable[..., ScalingPolicy]]] = {
    name: governed(kind) for name, kind in NAMED.items()
}
"""What configuration may name."""
