"""The file of what was learnt: a help and never a must."""

import json
from pathlib import Path

import pytest

from pythia_metrics.keeping import Keeping, Learnt

LEARNT = Learnt(true_rate=9.8, best_rate=10.0, start_s=4.0)


def test_what_is_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    """By the same worker's name, and nothing lies beside it."""
    file = tmp_path / "state.json"
    Keeping(file, "orders").save(LEARNT)
    assert Keeping(file, "orders").load() == LEARNT
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"worker": "orders", "true_rate": "fast"}',
        '{"worker": "orders", "true_rate": -1}',
        '{"worker": "orders", "true_rate": NaN}',
        '{"worker": "others", "true_rate": 3}',
        "x" * 100_000,
    ],
)
def test_a_bad_file_is_ignored_with_a_warning(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is in it, it is as good as none, and is replaced when something was learnt."""
    file = tmp_path / "state.json"
    file.write_text(text)
    keeping = Keeping(file, "orders")
    assert keeping.load() == Learnt()
    assert "is ignored, what was learnt is learnt anew" in caplog.text
    keeping.save(LEARNT)
    assert json.loads(file.read_text())["true_rate"] == 9.8


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Scaling goes on without it."""
    keeping = Keeping(tmp_path / "nowhere" / "state.json", "orders")
    keeping.save(LEARNT)
    keeping.save(LEARNT)
    assert caplog.text.count("cannot be kept") == 1


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    """A rate that moves by less than a hundredth is the same."""
    file = tmp_path / "state.json"
    keeping = Keeping(file, "orders")
    keeping.save(LEARNT)
    file.unlink()
    keeping.save(Learnt(true_rate=9.85, best_rate=10.0, start_s=4.0))
    assert not file.exists()
    keeping.save(Learnt(true_rate=12.0, best_rate=12.0, start_s=4.0))
    assert file.exists()


def test_without_a_file_nothing_is_kept() -> None:
    """And nothing is wrong."""
    keeping = Keeping(None, "orders")
    keeping.save(LEARNT)
    assert keeping.load() == Learnt()
