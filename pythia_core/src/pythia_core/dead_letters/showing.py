"""Shows dead letters without consuming them: by the broker's own means, or by taking them and giving them all back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from pythia_core.contracts import Message, Source
from pythia_core.dead_letters.looker import Looker, count, give_back
from pythia_core.dead_letters.reading import DeadLetter

__all__ = ["look"]


async def look(reader: Source, show: Callable[[DeadLetter], bool]) -> None:
    """Call ``show`` with each letter, oldest first, until it returns False or there are no more.

    Raises:
        ConfigError: if they cannot be reached.
    """
    await count(reader)  # which says so if they cannot be reached
    async with reader.inspect() as inspector:
        if (browsing := inspector.browse()) is not None:
            async with aclosing(browsing) as messages:
                async for message in messages:
                    if not show(DeadLetter.of(message)):
                        break
            return
    await _take_and_give_back(reader, show)


async def _take_and_give_back(reader: Source, show: Callable[[DeadLetter], bool]) -> None:
    async def see(message: Message[Any]) -> None:
        if not show(DeadLetter.of(message)):
            looker.end()
        raise give_back()

    looker = Looker(reader, see)
    await looker.run()
