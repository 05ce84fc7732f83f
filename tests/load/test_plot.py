"""Plots of a load test: what is slow is high, what is late is to the right, and both forms say the same."""

from xml.etree import ElementTree

import attrs
import pytest

from pythia_core.testing import LoadResults
from pythia_core.testing.plot import as_svg, as_text
from tests.load.test_verdict import FINE, verdict

SVG = "{http://www.w3.org/2000/svg}"


def results(*timeline: tuple[float, float]) -> LoadResults:
    """Return the figures of a test with these latencies."""
    return attrs.evolve(verdict(*FINE), timeline=timeline, latencies=sorted(seen for _, seen in timeline))


SPIKE = [(number / 100, 1.0 if 500 <= number < 550 else 0.01) for number in range(1000)]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_text_plot_fits_and_shows_a_spike_where_it_was(width: int) -> None:
    """In the middle of the time, at the top; everything else lies at the bottom."""
    lines = as_text(results(*SPIKE), width).splitlines()
    assert max(map(len, lines[:-1])) <= max(width, 24)
    rows = [line.partition("│")[2] for line in lines if "│" in line]
    columns = len(lines[len(rows)].partition("└")[2])
    high = [column for column, sign in enumerate(rows[0]) if sign != " "]
    assert 0.4 <= min(high) / columns and max(high) / columns <= 0.65
    assert rows[-1].count("•") >= 0.8 * columns
    assert lines[0].split()[:2] == ["1,000.0", "ms"] and lines[len(rows) - 1].split()[:2] == ["10.0", "ms"]


def test_nothing_processed_is_no_plot() -> None:
    """The SVG still says so; the terminal has the table."""
    none = results()
    assert as_text(none, 80) == ""
    assert "polyline" not in as_svg(none, "none")


def test_latencies_that_are_all_the_same_can_be_drawn() -> None:
    """A scale has a length, whatever is on it; one message is enough."""
    for same in (results((0.0, 0.005)), results(*[(second, 0.0) for second in range(5)])):
        assert "•" in as_text(same, 80)
        ElementTree.fromstring(as_svg(same, "same"))


def test_an_svg_has_a_line_for_each_percentile_within_its_frame() -> None:
    """Whoever is slow is higher, and a title is only text."""
    root = ElementTree.fromstring(as_svg(results(*SPIKE), "<worker> & co"))
    lines = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    assert len(lines) == 3
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= x <= width and 0 <= y <= height for line in lines for x, y in line)
    (top,) = {min(y for _, y in line) for line in lines}
    at_top = [x for x, y in lines[0] if y == top]
    assert 0.4 < min(at_top) / width and max(at_top) / width < 0.65
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words[0] == "<worker> & co" and "4 of 4 processed" in str(words[-1])
