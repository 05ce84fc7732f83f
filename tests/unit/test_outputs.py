"""What every sink does with the outputs of one write before it sends any of them."""

from __future__ import annotations

from pythia_core import Output, WriteError, held_back, prepare_outputs


def prepare(index: int, output: Output) -> tuple[int, object]:
    """Refuse what says so."""
    if output.value == "bad":
        raise WriteError("it is bad", permanent=True)
    return index, output.value


def test_later_outputs_of_a_failed_key_wait() -> None:
    """They would overtake it; outputs of other keys, and those without one, wait for nobody."""
    keys = ["a", "a", "a", "b", None, None, None]
    values = ["1", "bad", "2", "3", "4", "bad", "5"]
    errors: dict[int, WriteError] = {}
    outputs = [Output(None, value, key=key) for key, value in zip(keys, values, strict=True)]
    assert prepare_outputs(outputs, prepare, errors) == [(0, "1"), (3, "3"), (4, "4"), (6, "5")]
    assert {index: str(error) for index, error in errors.items()} == {
        1: "it is bad",
        2: str(held_back("a")),
        5: "it is bad",
    }
    assert [errors[index].permanent for index in (1, 2, 5)] == [True, False, True]
