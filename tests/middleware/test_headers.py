"""A header decides whether a message is worked on, and by what; bodies are not looked at."""

from __future__ import annotations

from typing import Any

import pytest

from pythia_core import ConfigError, Headers, Message, Reject, Skip
from pythia_core.middleware import HeaderFilter, HeaderRoute
from tests.engine.bench import running


def message(value: Any) -> Message[Any]:
    """A message of this type."""
    return Message(b"not json", headers=Headers([] if value is None else [("type", value)]))


async def passing(layer: HeaderFilter, value: Any) -> bool:
    """Tell whether a message of this type reaches the handler."""
    seen: list[Message[Any]] = []

    async def handler(each: Message[Any]) -> None:
        seen.append(each)

    try:
        await layer.wrap(handler)(message(value))
    except Skip:
        return False
    return bool(seen)


@pytest.mark.parametrize(
    ("value", "passes"), [("new", True), (b"new", True), ("old", False), (None, False), (b"\xff", False)]
)
async def test_only_what_is_named_passes(value: Any, passes: bool) -> None:
    """Text and bytes alike; without the header only if that is said."""
    assert await passing(HeaderFilter("type", ["new"]), value) is passes
    assert await passing(HeaderFilter("type", ["new"], missing=True), value) is (passes or value is None)


async def test_what_does_not_pass_is_settled() -> None:
    """Its work is another worker's; here it is done."""
    seen: list[bytes] = []

    async def handler(each: Message[Any]) -> None:
        seen.append(each.raw)

    async with running(handler, middleware=[HeaderFilter("type", ["new"])]) as bench:
        bench.send(b"1", headers={"type": "old"})
        bench.send(b"2", headers={"type": "new"})
        await bench.until_settled(2)
        assert (seen, bench.dead) == ([b"2"], [])


async def test_a_route_is_called_instead_of_the_handler() -> None:
    """By the header's value; what has no route goes to the handler, or is rejected."""
    calls: list[str] = []

    def named(name: str) -> Any:
        async def handler(each: Message[Any]) -> str:
            calls.append(name)
            return name

        return handler

    routed = HeaderRoute("type", {"refund": named("refund")}).wrap(named("process"))
    assert [await routed(message(value)) for value in ("refund", b"refund", "order", None)] == [
        "refund",
        "refund",
        "process",
        "process",
    ]
    strict = HeaderRoute("type", {"refund": named("refund")}, otherwise="reject").wrap(named("process"))
    with pytest.raises(Reject, match="no route for header type with 'order'"):
        await strict(message("order"))


@pytest.mark.parametrize("layer", [HeaderFilter("type", ["new"]), HeaderRoute("type", {"a": None})])  # type: ignore[dict-item]
async def test_batches_are_refused(layer: Any) -> None:
    """With a clear error, instead of a header of a list."""
    with pytest.raises(TypeError, match="process_batch"):
        await layer.wrap(None)([message("new")])


def test_what_makes_no_sense_is_refused() -> None:
    """A text is no list of values; no routes are no middleware."""
    with pytest.raises(ConfigError, match="values is 'new'"):
        HeaderFilter("type", "new")
    with pytest.raises(ConfigError, match="routes is empty"):
        HeaderRoute("type", {})
    with pytest.raises(ConfigError, match="otherwise is 'drop'"):
        HeaderRoute("type", {"a": None}, otherwise="drop")  # type: ignore[dict-item]
