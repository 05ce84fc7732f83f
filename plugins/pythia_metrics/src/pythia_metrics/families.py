"""A metric family as plain data: what children send, what is added up, and how Prometheus wants to read it.

It stands apart from prometheus_client, whose objects live in the children only: the supervisor adds up numbers and
imports nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import attrs

__all__ = ["CONTENT_TYPE", "SUMMED", "Family", "Kind", "Labels", "expose"]

Kind = Literal["counter", "gauge", "histogram", "summary", "unknown"]
Labels = tuple[tuple[str, str], ...]

SUMMED: Final = frozenset({"counter", "histogram", "summary"})
"""Kinds that only grow, so that those of all processes, living and dead, add up."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@attrs.define(eq=False)
class Family:
    """One metric with all its label values.

    Args:
        name: as Prometheus calls it, a counter's with its ``_total``.
        kind: its type.
        help: one sentence.
        mode: how the values of several processes become one, for gauges: prometheus_client's ``multiprocess_mode``.
        samples: values by the full name of the sample and its sorted labels.
    """

    name: str
    kind: Kind
    help: str = ""
    mode: str = "all"
    samples: dict[tuple[str, Labels], float] = attrs.field(factory=dict)

    def add(self, value: float, labels: Mapping[str, str] | None = None, suffix: str = "") -> None:
        """Add to the sample with these labels; the first time it is there from then on."""
        key = (self.name + suffix, tuple(sorted((labels or {}).items())))
        self.samples[key] = self.samples.get(key, 0.0) + value

    def dump(self) -> list[Any]:
        """Return it as JSON takes it."""
        samples = [[name, list(map(list, labels)), value] for (name, labels), value in self.samples.items()]
        return [self.name, self.kind, self.help, self.mode, samples]

    @classmethod
    def load(cls, said: Any) -> Family:
        """Return what ``dump`` made JSON of."""
        name, kind, text, mode, samples = said
        values = {
            (sample, tuple((key, item) for key, item in labels)): math.nan if value is None else value
            for sample, labels, value in samples  # JSON has no NaN
        }
        return cls(name, kind, text, mode, values)


def expose(families: Iterable[Family]) -> str:
    """Return families as Prometheus's text format 0.0.4."""
    lines: list[str] = []
    for family in sorted(families, key=lambda family: family.name):
        if not family.samples:
            continue
        kind = "untyped" if family.kind == "unknown" else family.kind
        lines += [f"# HELP {family.name} {_escape_help(family.help)}", f"# TYPE {family.name} {kind}"]
        lines += [
            f"{name}{_labels(labels)} {_number(value)}" for (name, labels), value in family.samples.items()
        ]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
