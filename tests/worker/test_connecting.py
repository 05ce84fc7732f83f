"""Trying to connect until it works: ever later, telling what is waited for and why, and not for what can never work."""

import anyio
import pytest

from pythia_core import ConfigError, SubscriptionLost, WriteError, connecting
from pythia_core.connecting import persist


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the failures that each wait is made of, and wait for none."""
    asked: list[int] = []

    def no_delay(count: int, *_: object) -> float:
        asked.append(count)
        return 0.0

    monkeypatch.setattr(connecting, "full_jitter", no_delay)
    return asked


async def test_each_failure_makes_the_wait_longer_and_is_told(
    failures: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """What is waited for, then why it failed; what was half open is closed before the next attempt."""
    said: list[str] = []
    happened: list[str] = []

    async def attempt() -> None:
        happened.append("try")
        if happened.count("try") < 4:
            raise ConnectionError("refused")

    async def undo() -> None:
        happened.append("undo")

    await persist("opening it", attempt, say=said.append, undo=undo)
    assert failures == [1, 2, 3]
    assert happened == ["try", "undo"] * 3 + ["try"]
    assert said == ["opening it", "opening it: refused"] * 3 + ["opening it"]
    assert [record.getMessage() for record in caplog.records] == [
        "opening it failed, again in 0.0 s: refused"
    ] * 3


async def test_an_error_without_words_is_told_by_its_class(failures: list[int]) -> None:
    """A timeout has none."""
    said: list[str] = []

    async def attempt() -> None:
        if len(said) < 3:
            raise TimeoutError

    await persist("opening it", attempt, say=said.append)
    assert "opening it: TimeoutError" in said


async def test_an_attempt_and_its_undoing_have_their_time(
    failures: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker may take the connection and never answer, and closing it may hang as well."""
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.05)
    tried: list[int] = []

    async def attempt() -> None:
        tried.append(1)
        if len(tried) < 2:
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        await persist("opening it", attempt, say=lambda _: None, undo=anyio.sleep_forever)
    assert failures == [1]


@pytest.mark.parametrize(
    "error", [WriteError("full"), SubscriptionLost("cut"), OSError("down"), RuntimeError("odd")]
)
async def test_what_may_pass_is_tried_again(failures: list[int], error: Exception) -> None:
    """A broker that is down has many words for it, and undoing may fail too."""
    tried: list[int] = []

    async def attempt() -> None:
        tried.append(1)
        if len(tried) < 2:
            raise error

    async def undo() -> None:
        raise error

    await persist("opening it", attempt, say=lambda _: None, undo=undo)
    assert len(tried) == 2


@pytest.mark.parametrize(
    "error", [ConfigError("wrong"), TypeError("code"), NotImplementedError("code"), AssertionError("code")]
)
async def test_what_can_never_work_is_raised(failures: list[int], error: Exception) -> None:
    """A setting or a mistake in code: trying again would only repeat it."""

    async def attempt() -> None:
        raise error

    with pytest.raises(type(error)):
        await persist("opening it", attempt, say=lambda _: None)
    assert failures == []


async def test_what_is_refused_for_good_is_a_fault_of_the_configuration(failures: list[int]) -> None:
    """A topic that may not be written to stays so until somebody changes it."""

    async def attempt() -> None:
        raise WriteError("no permission", permanent=True)

    with pytest.raises(ConfigError, match="opening it: no permission"):
        await persist("opening it", attempt, say=lambda _: None)
