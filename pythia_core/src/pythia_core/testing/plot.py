"""Draws how latency went over a load test, for a terminal and as an SVG, from the figures alone.

It stands apart because a plot shows what no percentile does: whether it was slow all the time, at the start, or more and more.
Both drawings have time to the right and latency upwards on a logarithmic scale, since it spans milliseconds and seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import attrs

from pythia_core.testing.verdict import LoadResults, nearest_rank

__all__ = ["as_svg", "as_text"]

ROWS = 8
COLOURS = {50.0: "#2b6cb0", 90.0: "#dd8a1f", 99.0: "#c53030"}
"""The percentiles of the SVG, each with a colour that also those tell apart who see no red or green."""


@attrs.frozen
class _Slice:
    """What was sent in one part of the time: from when on, and latencies in ascending order."""

    begins: float
    latencies: Sequence[float]

    def at(self, percentile: float) -> float:
        """Return the latency within which so many of a hundred were."""
        return nearest_rank(self.latencies, percentile)


def _slices(results: LoadResults, count: int) -> list[_Slice]:
    """Cut the time in which messages were sent into equal parts; those without a message are left out."""
    last = max(sent for sent, _ in results.timeline)
    length = max(last / count, 1e-9)
    parts: dict[int, list[float]] = {}
    for sent, latency in results.timeline:
        parts.setdefault(min(count - 1, int(sent / length)), []).append(latency)
    return [_Slice(part * length, sorted(found)) for part, found in sorted(parts.items())]


def _scale(low: float, high: float, size: float) -> Callable[[float], float]:
    """Return what puts a latency on a logarithmic scale from 0 to ``size``."""
    low, high = math.log(low), math.log(high)
    return lambda seconds: size * (math.log(seconds) - low) / (high - low)


def _bounds(slices: Sequence[_Slice]) -> tuple[float, float]:
    """Return the least and the most that is drawn, never one and the same."""
    low = max(1e-6, min(part.at(50) for part in slices))
    return low, max(low * 1.5, *(part.at(99) for part in slices))


def milliseconds(seconds: float) -> str:
    """Return a latency as people read one: ``4.3 ms``."""
    return f"{seconds * 1000:,.1f} ms"


def as_text(results: LoadResults, width: int) -> str:
    """Return a plot in ``width`` columns, or the empty text if nothing was processed."""
    if not results.timeline:
        return ""
    margin = 12
    columns = max(10, width - margin - 2)
    slices = _slices(results, columns)
    low, high = _bounds(slices)
    height = _scale(low, high, ROWS - 1)
    grid = [[" "] * columns for _ in range(ROWS)]
    end = max(sent for sent, _ in results.timeline) or 1.0
    for part in slices:
        column = min(columns - 1, int(part.begins / end * columns + 0.5))
        for percentile, sign in ((99.0, "▴"), (50.0, "•")):
            row = round(height(min(high, max(low, part.at(percentile)))))
            grid[ROWS - 1 - row][column] = sign
    labels = {0: milliseconds(high), ROWS - 1: milliseconds(low)}
    lines = [f"{labels.get(row, ''):>{margin}} │{''.join(cells)}".rstrip() for row, cells in enumerate(grid)]
    foot = f"{end:,.0f} s" if end >= 10 else f"{end:.1f} s"
    lines.append(f"{'':>{margin}} └{'─' * columns}")
    lines.append(f"{'':>{margin}}  0 s{foot:>{columns - 3}}")
    lines.append(f"{'':>{margin}}  • half of the messages  ▴ 99 of 100  by when they were to be sent")
    return "\n".join(lines)


def as_svg(results: LoadResults, title: str) -> str:
    """Return a drawing of 50, 90 and 99 of a hundred over time, with the figures in words below it."""
    width, height, left, top = 720, 300, 80, 40
    body = [f'<text x="{left}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>']
    if results.timeline:
        body += _curves(results, width, height, left, top)
    said = (
        f"{results.done:,} of {results.sent:,} processed, {results.avg_throughput:,.0f} a second; on average "
        f"{milliseconds(results.avg_latency) if results.latencies else 'nothing'}; {results.lost:,} lost, "
        f"{results.duplicates:,} twice, {results.error_rate:.2%} of the attempts failed"
    )
    body.append(f'<text x="{left}" y="{top + height + 48}">{escape(said)}</text>')
    size = f'width="{left + width + 90}" height="{top + height + 70}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n'
        f'<rect {size} fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _curves(results: LoadResults, width: int, height: int, left: int, top: int) -> list[str]:
    """Return the axes with their labels, and a line for each percentile with its name at its end."""
    slices = _slices(results, min(120, max(10, len(results.timeline) // 50)))
    low, high = _bounds(slices)
    up = _scale(low, high, height)
    end = max(sent for sent, _ in results.timeline) or 1.0
    drawn = [f'<path d="M{left} {top}V{top + height}H{left + width}" fill="none" stroke="#555"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, latency = top + height * (1 - share), low * (high / low) ** share
        drawn.append(f'<path d="M{left} {y:.1f}h{width}" stroke="#ddd"/>')
        drawn.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{milliseconds(latency)}</text>')
        x = left + width * share
        drawn.append(
            f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{end * share:,.1f} s</text>'
        )
    for percentile, colour in COLOURS.items():
        points = [
            (left + width * part.begins / end, top + height - up(min(high, max(low, part.at(percentile)))))
            for part in slices
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x, y = points[-1]
        drawn.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{percentile:g} %</text>')
    return drawn
