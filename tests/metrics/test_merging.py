"""One endpoint for N processes: each invariant of ``merging``, also for any order of reports and deaths."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pythia_metrics.families import Family, Kind
from pythia_metrics.merging import TIMES, Merger


def family(name: str, kind: Kind, value: float, mode: str = "all", **labels: str) -> Family:
    """Return a family with one sample."""
    made = Family(name, kind, "Help.", mode)
    made.add(value, labels)
    return made


def histogram(*counts: int, bounds: tuple[str, ...] = ("1", "+Inf")) -> Family:
    """Return a histogram with these cumulative counts."""
    made = Family("h", "histogram")
    for bound, count in zip(bounds, counts, strict=True):
        made.add(count, {"le": bound}, "_bucket")
    made.add(counts[-1], None, "_count")
    return made


def values(merger: Merger) -> dict[str, float]:
    """Return all samples with their labels as one text."""
    return {
        name + "".join(f",{key}={value}" for key, value in labels): value
        for found in merger.families()
        for (name, labels), value in found.samples.items()
    }


def test_m1_counters_of_all_processes_add_up_and_outlive_them() -> None:
    """A counter that falls would look like a restart, and a rate over it would be wrong."""
    merger = Merger()
    merger.take(1, 0, [family("c_total", "counter", 5)])
    merger.take(2, 1, [family("c_total", "counter", 7)])
    assert values(merger) == {"c_total": 12}
    merger.forget(1)
    assert values(merger) == {"c_total": 12}
    merger.take(3, 0, [family("c_total", "counter", 1)])
    assert values(merger) == {"c_total": 13}


def test_m1_histograms_of_the_dead_are_kept_too() -> None:
    """Bucket by bucket."""
    merger = Merger()
    merger.take(1, 0, [histogram(1, 3)])
    merger.forget(1)
    merger.take(2, 0, [histogram(0, 2)])
    assert values(merger) == {"h_bucket,le=1": 1, "h_bucket,le=+Inf": 5, "h_count": 5}


def test_m2_a_gauge_has_its_slot_and_goes_with_its_process() -> None:
    """A pid as a label would make a new series with each restart, for ever."""
    merger = Merger()
    merger.take(1, 0, [family("g", "gauge", 5, of="a")])
    merger.take(2, 1, [family("g", "gauge", 7, process="mine")])
    assert values(merger) == {"g,of=a,process=0": 5, "g,exported_process=mine,process=1": 7}
    merger.forget(1)
    assert values(merger) == {"g,exported_process=mine,process=1": 7}


def test_m2_a_gauge_says_how_it_is_put_together() -> None:
    """As prometheus_client's multiprocess mode promises it."""
    merger = Merger()
    for number, value in ((1, 3.0), (2, 9.0), (3, 6.0)):
        modes = ("livemin", "max", "livesum", "mostrecent")
        merger.take(number, number, [family(mode, "gauge", value, mode) for mode in modes])
    assert values(merger) == {"livemin": 3, "max": 9, "livesum": 18, "mostrecent": 6}


def test_m3_what_does_not_fit_is_left_out_and_counted() -> None:
    """Two versions of a worker run side by side during a roll; their buckets must not be mixed."""
    merger = Merger()
    merger.take(1, 0, [histogram(1, 3), family("x", "gauge", 1)])
    merger.take(2, 1, [histogram(5, 9, bounds=("2", "+Inf")), family("x", "counter", 1)])
    assert values(merger) == {"h_bucket,le=1": 1, "h_bucket,le=+Inf": 3, "h_count": 3, "x,process=0": 1}
    assert merger.dropped == 4


def test_m4_the_number_of_samples_is_bounded() -> None:
    """A label for each customer must fill neither the pipe, the supervisor nor Prometheus."""
    merger = Merger(most=10)
    many = Family("many", "counter")
    for number in range(11):
        many.add(1, {"customer": str(number)})
    merger.take(1, 0, [many, family("few", "counter", 1)])
    assert values(merger) == {"few": 1}
    assert merger.dropped == 11
    for number in range(2, 2 + 2 * TIMES * 10):
        merger.take(number, 0, [family("c", "counter", 1, life=str(number))])
        merger.forget(number)
    assert len(values(merger)) <= TIMES * 10 + 1


class Lives(RuleBasedStateMachine):
    """Processes that count, report, die and come again in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.merger = Merger()
        self.counts: dict[int, int] = {}
        self.reported: dict[int, int] = {}
        self.number = 0
        self.before = 0.0

    @rule()
    def is_born(self) -> None:
        """Another process."""
        self.number += 1
        self.counts[self.number] = 0

    @precondition(lambda self: self.counts)
    @rule(data=st.data(), more=st.integers(0, 5))
    def counts_and_reports(self, data: st.DataObject, more: int) -> None:
        """It counts a little more and says so."""
        number = data.draw(st.sampled_from(sorted(self.counts)))
        self.counts[number] += more
        self.reported[number] = self.counts[number]
        self.merger.take(number, 0, [family("c", "counter", self.counts[number])])

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        """It dies, perhaps without a last report."""
        number = data.draw(st.sampled_from(sorted(self.counts)))
        del self.counts[number]
        self.merger.forget(number)

    @invariant()
    def nothing_falls_and_nothing_is_lost(self) -> None:
        """The sum is what was ever reported."""
        total = values(self.merger).get("c", 0.0)
        assert total == sum(self.reported.values())
        assert total >= self.before
        self.before = total


TestLives = Lives.TestCase
