"""Draws what came of a simulation as one page that needs nothing else: for each trace the load, and what each policy did.

It draws SVG from the standard library, because a plotting library would weigh more than all of Pythia.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

import attrs

from pythia_metrics.simulator import Report

__all__ = ["page"]

WIDTH, HEIGHT, LEFT, TOP, GAP = 860, 120, 60, 18, 34  # of a panel, in pixels
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00", "#000000")
"""Okabe and Ito's, which the colour-blind can tell apart."""

STYLE: Final = """
body{font:14px system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;margin:.5em 0 1em}td,th{padding:.15em .7em;text-align:right}
th{border-bottom:1px solid #999}td:first-child,th:first-child{text-align:left}tr.best{font-weight:bold}
svg{width:100%;height:auto}h2{margin-top:2em}.scroll{overflow-x:auto}
"""

HEADS: Final = (
    "policy",
    "misses",
    "p50",
    "p99",
    "oldest",
    "hours",
    "changes",
    "reversals",
    "at max",
    "x needed",
)


@attrs.frozen(kw_only=True)
class Panel:
    """One picture: lines over minutes.

    Args:
        title: what is drawn, with its unit.
        lines: values each minute by name.
        bound: a value to mark, or None.
        steps: True if a value holds until the next, as numbers of processes do.
    """

    title: str
    lines: Sequence[tuple[str, Sequence[float]]]
    bound: float | None = None
    steps: bool = False


def page(rows: Sequence[Report], slo: float, best: Callable[[Sequence[Report]], Report | None]) -> str:
    """Return the page.

    Args:
        rows: reports, all of a trace's policies one after the other.
        slo: seconds of age that are marked.
        best: tells which row of a trace is shown in bold.
    """
    parts = [
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>pythia scaling simulate</title><style>{STYLE}</style><h1>Scaling policies on loads</h1>",
    ]
    for trace in dict.fromkeys(row.trace for row in rows):
        block = [row for row in rows if row.trace == trace]
        parts += [f"<h2>{escape(trace)}</h2>", _table(block, best(block)), _figure(block, slo)]
    return "\n".join(parts) + "\n"


def _table(block: Sequence[Report], best: Report | None) -> str:
    lines = ["<div class=scroll><table><tr>" + "".join(f"<th>{head}</th>" for head in HEADS) + "</tr>"]
    for row in block:
        cells = (
            f"<span style='color:{_colour(block, row)}'>&#9632;</span> {escape(row.policy)}",
            f"{row.misses:.2%}",
            *(f"{value:.0f} s" for value in (row.p50, row.p99, row.oldest)),
            f"{row.worker_hours:.2f}",
            str(row.changes),
            str(row.reversals),
            f"{row.at_max:.0%}",
            f"{row.over_provision:.2f}",
        )
        mark = " class=best" if row is best else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "".join(lines) + "</table></div>"


def _colour(block: Sequence[Report], row: Report) -> str:
    return COLOURS[[each.policy for each in block].index(row.policy) % len(COLOURS)]


def _figure(block: Sequence[Report], slo: float) -> str:
    panels = (
        Panel(title="arrivals, messages a second", lines=[("", block[0].arrivals)]),
        Panel(
            title="processes that there should be",
            lines=[(row.policy, row.replicas) for row in block],
            steps=True,
        ),
        Panel(
            title=f"age of the oldest message, seconds; the line is at {slo:g}",
            lines=[(row.policy, row.waits) for row in block],
            bound=slo,
        ),
    )
    height = len(panels) * (HEIGHT + GAP) + TOP
    drawn = [_panel(panel, TOP + number * (HEIGHT + GAP)) for number, panel in enumerate(panels)]
    return (
        f"<svg viewBox='0 0 {WIDTH} {height}' role='img' font-size='11' font-family='system-ui,sans-serif'>"
        + "".join(drawn)
        + "</svg>"
    )


def _panel(panel: Panel, top: float) -> str:
    most = max([1.0, *(value for _, values in panel.lines for value in values), panel.bound or 0.0])
    bottom, right = top + HEIGHT, WIDTH - 10
    parts = [
        f"<text x='{LEFT}' y='{top - 5}'>{escape(panel.title)}</text>",
        f"<path d='M{LEFT} {top}V{bottom}H{right}' fill='none' stroke='#999'/>",
        f"<text x='{LEFT - 6}' y='{top + 9}' text-anchor='end'>{most:.4g}</text>",
        f"<text x='{LEFT - 6}' y='{bottom}' text-anchor='end'>0</text>",
    ]
    if panel.bound is not None:
        y = bottom - panel.bound / most * HEIGHT
        parts.append(f"<path d='M{LEFT} {y:.1f}H{right}' stroke='#999' stroke-dasharray='4 3'/>")
    for number, (name, values) in enumerate(panel.lines):
        colour = COLOURS[number % len(COLOURS)] if name else "#444"
        path = _path(values, most, bottom, panel.steps)
        parts.append(
            f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.5'><title>{escape(name)}</title></path>"
        )
    minutes = max((len(values) for _, values in panel.lines), default=1) - 1
    parts.append(f"<text x='{right}' y='{bottom + 12}' text-anchor='end'>{minutes} min</text>")
    return "".join(parts)


def _path(values: Sequence[float], most: float, bottom: float, steps: bool) -> str:
    """Return the line through values as SVG's path data."""
    width = (WIDTH - 10 - LEFT) / max(1, len(values) - 1)
    points: Iterable[tuple[float, float]] = (
        (LEFT + number * width, bottom - value / most * HEIGHT) for number, value in enumerate(values)
    )
    drawn: list[str] = []
    for x, y in points:
        if not drawn:
            drawn.append(f"M{x:.1f} {y:.1f}")
        else:
            drawn.append(f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}")
    return "".join(drawn)
