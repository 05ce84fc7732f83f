"""How busy the processors are: the machine's, and those of either version of control groups with a quota."""

from pathlib import Path

import pytest

from pythia_core.processor_use import ProcessorUse, quota
from tests.unit.test_budget import tree

V = "proc/self/cgroup"
CG = "sys/fs/cgroup"
UNIFIED = {V: "0::/a\n", f"{CG}/a/cpu.max": "200000 100000\n", f"{CG}/a/cpu.stat": "usage_usec 1000000\n"}
OLD = {
    V: "4:cpu,cpuacct:/a\n",
    f"{CG}/cpu/a/cpu.cfs_quota_us": "150000\n",
    f"{CG}/cpu/a/cpu.cfs_period_us": "100000\n",
    f"{CG}/cpu/a/cpuacct.usage": "1000000000\n",
}


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        (UNIFIED, [2.0]),
        ({**UNIFIED, f"{CG}/cpu.max": "50000 100000\n"}, [2.0, 0.5]),
        ({V: "0::/a\n", f"{CG}/a/cpu.max": "max 100000\n"}, []),
        (OLD, [1.5]),
        ({**OLD, f"{CG}/cpu/a/cpu.cfs_quota_us": "-1\n"}, []),
        ({}, []),
    ],
)
def test_a_quota_is_read(tmp_path: Path, files: dict[str, str], processors: list[float]) -> None:
    """As so many processors' time, of this group and those above it; none is none."""
    assert [number for _, number in quota(tree(tmp_path, files))] == processors


@pytest.mark.parametrize(
    ("files", "later"),
    [
        (UNIFIED, {f"{CG}/a/cpu.stat": "usage_usec 4000000\nuser_usec 1\n"}),
        (
            {**OLD, f"{CG}/cpu/a/cpu.cfs_quota_us": "200000\n"},
            {f"{CG}/cpu/a/cpuacct.usage": "4000000000\n"},
        ),
    ],
)
def test_the_busiest_counts(tmp_path: Path, files: dict[str, str], later: dict[str, str]) -> None:
    """Three of four seconds of the quota are more than a tenth of the machine; with a busy machine it is the machine."""
    now, machine = [10.0], [(5.0, 100.0)]
    use = ProcessorUse(tree(tmp_path, files), lambda: machine[0], lambda: now[0])
    assert use() is None, "no time has passed"
    now[0], machine[0] = 12.0, (10.0, 150.0)
    tree(tmp_path, later)
    assert use() == pytest.approx(75.0)
    now[0], machine[0] = 14.0, (59.0, 200.0)
    assert use() == pytest.approx(98.0)


def test_this_machine_is_measured() -> None:
    """What it says of a moment of work lies between nothing and all of it."""
    use = ProcessorUse()
    while (said := use()) is None:
        sum(range(100_000))
    assert 0 <= said <= 100


@pytest.mark.parametrize(("used", "said"), [(-1e-10, 0.0), (0.5, 50.0), (1.02, 100.0)])
def test_what_is_measured_coarsely_stays_within_bounds(tmp_path: Path, used: float, said: float) -> None:
    """Sums of the kernel's ticks differ by a rounding from one reading to the next."""
    readings = iter([(1.0, 1.0), (1.0 + used, 2.0)])
    assert ProcessorUse(tmp_path, lambda: next(readings))() == pytest.approx(said, abs=1e-12)
