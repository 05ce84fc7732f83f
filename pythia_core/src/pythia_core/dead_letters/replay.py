"""Sends dead letters back to where they came from, by an engine of their own, so that none is lost on the way.

What a worker has, a replay has: leases renewed, lost connections made again, a graceful stop. The engine is that of
:mod:`~pythia_core.dead_letters.looker`: one letter at a time, so they keep the order in which they lie.

Invariants:

1. *Written, then settled.* A letter is settled only after its source has confirmed the message.
2. *What is not replayed stays.* It is released. Where that cannot be said of a single message (a committed position), or
   a broker lets out only so many, it is written anew at the end, confirmed, and settled where it was.
3. *It ends.* A letter that this replay wrote anew is not looked at again; what comes later is behind it.
4. *No more than was asked for.* Neither more than ``limit`` nor faster than ``rate``; nothing but what ``selection`` wants.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import attrs

from pythia_core.backoff import full_jitter
from pythia_core.contracts import Message, Sink
from pythia_core.dead_letters.looker import CONNECT_SECONDS, Looker, count, give_back
from pythia_core.dead_letters.place import Place
from pythia_core.dead_letters.reading import KEPT, DeadLetter, Selection, original_headers
from pythia_core.engine.dead_letters import key_text
from pythia_core.errors import ConfigError, WriteError

__all__ = ["Replay", "Report"]

log = logging.getLogger("pythia.replay")

CLOSE_SECONDS = 5.0
FEW = 20  # faults kept


@attrs.define
class Report:
    """What became of the letters.

    Args:
        replayed: written and confirmed (in a trial run: what would be).
        unselected: not wanted.
        foreign: of other sources, or no dead letters at all.
        references: wanted, but of their body only the beginning was kept.
        refused: wanted, but refused by the source for good.
        faults: the first of these, in words.
        interrupted: True if it was stopped before the end.
    """

    replayed: int = 0
    unselected: int = 0
    foreign: Counter[str] = attrs.field(factory=Counter)
    references: int = 0
    refused: int = 0
    faults: list[str] = attrs.field(factory=list)
    interrupted: bool = False

    @property
    def seen(self) -> int:
        """How many letters were looked at."""
        return self.replayed + self.unselected + self.foreign.total() + self.references + self.refused

    def complain(self, letter: DeadLetter, why: str) -> None:
        """Keep a fault."""
        if len(self.faults) < FEW:
            self.faults.append(f"{letter.place}: {why}")


@attrs.define(eq=False)
class Replay:
    """One replay.

    Args:
        place: where the letters lie and where they came from.
        selection: which are wanted.
        limit: the most that are replayed, or None for all.
        rate: the most a second, or None for as fast as they go.
        trial: only count what would be replayed.
        watch: called after each letter.
    """

    place: Place
    selection: Selection = attrs.field(factory=Selection)
    limit: int | None = None
    rate: float | None = None
    trial: bool = False
    watch: Callable[[Report], None] = lambda report: None
    report: Report = attrs.field(factory=Report, init=False)
    total: int | None = attrs.field(default=None, init=False)
    _run: str = attrs.field(factory=lambda: secrets.token_hex(8), init=False)
    _looker: Looker = attrs.field(init=False)
    _next: float = attrs.field(default=0.0, init=False)
    _target: Sink = attrs.field(init=False)
    _back: Sink | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._looker = Looker(self.place.reader, self._handle)

    async def run(self) -> Report:
        """Replay until there is nothing more.

        Raises:
            ConfigError: if source or letters cannot be reached at the start; later outages are waited out.
        """
        reader = self.place.reader
        self._target = self.place.source.counterpart().fresh()
        moves = reader.capabilities.ack == "cumulative" or reader.capabilities.window is not None
        back = reader.counterpart().fresh() if moves and not self.trial else None
        opened = [self._target] if back is None else [self._target, back]
        try:
            for sink in opened:
                await _open(sink)
            self._back = back
            self.total = await count(reader)
            self.watch(self.report)
            await self._looker.run()
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                for sink in opened:
                    await sink.aclose()
        return self.report

    def stop(self) -> None:
        """End gracefully: the letter at work is written and settled, the others stay."""
        if not self._looker.ended:
            self.report.interrupted = True
            self._looker.end()

    async def _handle(self, message: Message[Any]) -> None:
        letter = DeadLetter.of(message)
        if letter.kept == self._run:
            raise give_back()
        if (why := self._why_not(letter)) is None:
            why = await self._replay(letter, message)
        self.watch(self.report)
        if self.report.replayed == self.limit:
            self._looker.end()
        if why is not None:
            await self._keep(message)

    def _why_not(self, letter: DeadLetter) -> str | None:
        """Judge a letter, and count it unless it is to be replayed."""
        if letter.source != self.place.source.name:
            other = letter.source or "no dead letters"
            self.report.foreign[other] += 1
            return other
        if not self.selection.wants(letter):
            self.report.unselected += 1
            return "not wanted"
        if letter.reference:
            self.report.references += 1
            why = f"cannot be replayed: of its {letter.size:,} bytes only the first were kept"
            self.report.complain(letter, why)
            return why
        return None

    async def _replay(self, letter: DeadLetter, message: Message[Any]) -> str | None:
        """Write a message to its source; return why that can never be, or None once it is confirmed."""
        if not self.trial:
            await self._take_turn()
            try:
                await self._write(self._target, message, original_headers(message))
            except WriteError as error:
                self.report.refused += 1
                self.report.complain(letter, f"refused by {self._target.name}: {error}")
                return str(error)
        self.report.replayed += 1
        return "only tried" if self.trial else None

    async def _take_turn(self) -> None:
        """Wait for as long as the rate demands."""
        if self.rate is None:
            return
        now = anyio.current_time()
        self._next = max(self._next, now) + 1 / self.rate
        await self._looker.sleep(self._next - 1 / self.rate - now)

    async def _write(self, sink: Sink, message: Message[Any], headers: Sequence[Any]) -> None:
        """Write until it is confirmed.

        Raises:
            WriteError: if it can never be.
            Retry: if this was ended before it was confirmed.
        """
        failures = 0
        key = message.key if isinstance(message.key, str | bytes) else key_text(message.key)
        while True:
            try:
                return await sink.send(message.raw, key=key, headers=headers)
            except Exception as error:
                if isinstance(error, WriteError) and error.permanent:
                    raise
                why = error
            failures += 1
            delay = full_jitter(failures, 0.2, 2.0, 5.0, random.random)
            log.warning("writing to %s failed, again in %.1f s: %s", sink.name, delay, why)
            await self._looker.sleep(delay)

    async def _keep(self, message: Message[Any]) -> None:
        """Have a letter stay where it is, or where the next one to look for it finds it."""
        if self._back is None:
            raise give_back()
        headers = [pair for pair in message.headers.items_all() if pair[0] != KEPT]
        await self._write(self._back, message, [*headers, (KEPT, self._run)])


async def _open(sink: Sink) -> None:
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            await sink.open()
            await sink.check()
    except TimeoutError:
        raise ConfigError(f"{sink.name} did not answer within {CONNECT_SECONDS:g} s") from None
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{sink.name} cannot be written to: {error}") from error
