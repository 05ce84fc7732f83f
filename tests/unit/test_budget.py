"""Memory: the limit that is read of either version of control groups, and the arithmetic against it."""

from pathlib import Path

import pytest

from pythia_core.budget import MIB, memory_fault, memory_limit


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below a root that stands for the machine's."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "proc/self/cgroup"
CG = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({V2: "0::/\n", f"{CG}/memory.max": "536870912\n"}, 536870912),
        ({V2: "0::/\n", f"{CG}/memory.max": "max\n"}, None),
        ({V2: "0::/a/b\n", f"{CG}/a/b/memory.max": "max\n", f"{CG}/a/memory.max": "1000\n"}, 1000),
        ({V2: "0::/a\n", f"{CG}/a/memory.max": "2000\n", f"{CG}/memory.max": "1000\n"}, 1000),
        ({V2: "5:cpu:/c\n4:memory,x:/m\n", f"{CG}/memory/m/memory.limit_in_bytes": "3000\n"}, 3000),
        ({V2: "4:memory:/m\n", f"{CG}/memory/m/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({V2: "4:memory:/host/only\n", f"{CG}/memory/memory.limit_in_bytes": "3000\n"}, 3000),
        ({}, None),
    ],
)
def test_the_strictest_limit_of_the_control_groups_counts(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    """Both versions, this group and those above it, and no limit at all."""
    assert memory_limit(tree(tmp_path, files)) == limit


@pytest.mark.parametrize(
    ("max_memory_mb", "processes", "limit_mb", "fits"),
    [
        (512, 4, 2485, True),  # 4 x 512 + 64 = 2112 <= 0.85 x 2485
        (512, 4, 2484, False),
        (None, 100, 1, True),
        (512, 4, None, True),
    ],
)
def test_processes_fit_or_not(
    max_memory_mb: int | None, processes: int, limit_mb: int | None, fits: bool
) -> None:
    """N x max_memory_mb + 64 must not be more than 0.85 of the limit; unknown is no fault."""
    limit = None if limit_mb is None else limit_mb * MIB
    assert (memory_fault(max_memory_mb, processes, limit) is None) is fits


def test_a_fault_says_what_would_fit() -> None:
    """The number it proposes is the largest that passes."""
    fault = memory_fault(512, 4, 2000 * MIB)
    assert fault is not None and "lower max_memory_mb to 409" in fault
    assert memory_fault(409, 4, 2000 * MIB) is None
    assert memory_fault(410, 4, 2000 * MIB) is not None
