"""The judge: a pure function over a history, which says what was promised and not kept, with the messages as evidence.

The invariants are those of the design's list, by their numbers:

I1  Every message whose sending was confirmed had its effect or is a dead letter.
I2  Every effect and dead letter is of a message that was sent, with the checksum that it was sent with.
I3  A message has one effect, unless a fault explains a second: it struck one of the two processes within `reach` seconds
    of one of the two effects. No fault explains more than its bound. A graceful stop explains none.
I4  Where the broker orders by key: a message starts after all of its key that were confirmed before it are done, or
    have failed for the last time. It may start again. Nothing waits for a message that kills its process: when it was
    given up nobody knows to the moment.
I5  What the broker was told to be settled, when anybody looked, had had its effect or was a dead letter by then; and it
    was told no more than that, where it tells only how many are left.
I6  Every poisoned message is a dead letter after exactly so many attempts, and every message that kills its process is
    one too. No other message is.
I7  No process runs more messages at once than it may.
I8  Messages do not stand still for longer than `patience`, and in the end nothing is left at the broker.
I9  A graceful stop ends with exit code 0 within `grace`, and its processes do nothing afterwards.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import attrs

from tests.chaos.events import Event

SHOWN = 5  # pieces of evidence for one violation


@attrs.frozen(kw_only=True)
class Rules:
    """What was promised.

    Args:
        attempts: after which a message is dead.
        concurrency: messages that a process runs at once.
        unsettled: messages that a process has at most done and not settled.
        reach: seconds around a fault in which it explains a second effect.
        patience: seconds without any effect that are too long.
        grace: seconds that a graceful stop may take.
        ordered: whether the broker orders by key.
    """

    attempts: int = 3
    concurrency: int = 20
    unsettled: int = 200
    reach: float = 5.0
    patience: float = 30.0
    grace: float = 20.0
    ordered: bool = False


@attrs.frozen
class Violation:
    """A promise that was not kept."""

    invariant: str
    text: str


@attrs.frozen
class Fault:
    """Something that was done to a worker or the broker.

    Args:
        name: what.
        start: when.
        end: when it was over.
        victims: the processes that it struck.
        bound: how many second effects it may explain.
    """

    name: str
    start: float
    end: float
    victims: frozenset[int]
    bound: int


@attrs.define
class Verdict:
    """What was found.

    Args:
        violations: promises not kept.
        figures: counts for the table.
        faults: how many of each kind.
        duplicates: second effects by the kind of fault that explains them.
    """

    violations: list[Violation]
    figures: dict[str, float]
    faults: Counter[str]
    duplicates: Counter[str]

    @property
    def holds(self) -> bool:
        """Whether everything was kept."""
        return not self.violations


def check(history: Sequence[Event], rules: Rules) -> Verdict:
    """Judge a history."""
    return Judge(history, rules).verdict()


class Judge:
    """Looks at one history."""

    def __init__(self, history: Sequence[Event], rules: Rules) -> None:
        self._history = sorted(history, key=lambda event: event.time)
        self._rules = rules
        self._by_kind: defaultdict[str, list[Event]] = defaultdict(list)
        for event in self._history:
            self._by_kind[event.what].append(event)
        self._sent = {event.id: event for event in self._by_kind["attempt"]}
        self._effects = self._by_id("effect")
        self._dead = self._by_id("dead")
        self._faults = sorted(self._find_faults(), key=lambda fault: fault.start)
        self._duplicates: Counter[str] = Counter()
        self._bound = 0

    def _by_id(self, kind: str) -> dict[str, list[Event]]:
        found: defaultdict[str, list[Event]] = defaultdict(list)
        for event in self._by_kind[kind]:
            found[event.id].append(event)
        return found

    def verdict(self) -> Verdict:
        """Ask for every invariant."""
        checks: list[Callable[[], Iterator[Violation]]] = [
            *(self.no_loss, self.no_phantom, self.few_duplicates, self.order, self.settled_after_work),
            *(self.dead_letters, self.concurrency, self.liveness, self.graceful_stops),
        ]
        violations = [violation for ask in checks for violation in ask()]
        return Verdict(violations, self._figures(), Counter(f.name for f in self._faults), self._duplicates)

    def _figures(self) -> dict[str, float]:
        owed = {event.id for event in self._by_kind["ok"]}
        stops = self._by_kind["stopped"]
        return {
            "sent": len(self._sent),
            "owed": len(owed),
            "lost": len(owed - self._effects.keys() - self._dead.keys()),
            "effects": len(self._by_kind["effect"]),
            "dead": len(self._dead),
            "duplicates": sum(self._duplicates.values()),
            "bound": self._bound,
            "faults": len(self._faults),
            "stops": len(stops),
            "samples": len(self._by_kind["counted"]),
            "settled": sum(len(event.more["ids"]) for event in self._by_kind["settled"]) or self._most_gone(),
            "killers": len(self._of_script("killer")),
            "processes": len(self._by_kind["up"]),
            "silence": max(self._silences(), default=0.0),
        }

    def _most_gone(self) -> int:
        """Return how many were seen to be gone, where nobody tells which."""
        looks = self._by_kind["counted"]
        return max((self._owed_at(look.more["began"]) - look.more["left"] for look in looks), default=0)

    # -- the invariants ------------------------------------------------------------------------------------------

    def no_loss(self) -> Iterator[Violation]:
        """I1."""
        owed = [event.id for event in self._by_kind["ok"]]
        lost = [id for id in owed if id not in self._effects and id not in self._dead]
        yield from _violation("I1", "lost", lost)

    def no_phantom(self) -> Iterator[Violation]:
        """I2."""
        seen = [*self._by_kind["effect"], *self._by_kind["dead"]]
        yield from _violation("I2", "never sent", [e.id for e in seen if e.id not in self._sent])
        damaged = [
            *(e.id for e in seen if e.id in self._sent and e.more["sum"] != self._sent[e.id].more["sum"]),
        ]
        yield from _violation("I2", "not as they were sent", damaged)

    def few_duplicates(self) -> Iterator[Violation]:
        """I3."""
        explained: Counter[int] = Counter()
        unexplained = []
        for effects in self._effects.values():
            for pair in pairwise(effects):
                number = self._explain(pair)
                if number is None:
                    unexplained.append(f"{pair[0].id} by {pair[0].by} and {pair[1].by}")
                else:
                    explained[number] += 1
                    self._duplicates[self._faults[number].name] += 1
        self._bound = sum(fault.bound for fault in self._faults)
        yield from _violation("I3", "with two effects that no fault explains", unexplained)
        for number, count in explained.items():
            fault = self._faults[number]
            if count > fault.bound:
                yield Violation("I3", f"{fault.name} at {fault.start:.3f}: {count} of at most {fault.bound}")

    def order(self) -> Iterator[Violation]:
        """I4."""
        if not self._rules.ordered:
            return
        before = self._predecessors()
        done: defaultdict[str, int] = defaultdict(lambda: -1)
        last: set[str] = set()  # ids of which the last attempt is under way
        early = []
        for event in self._history:
            key, _, number = event.id.rpartition("-")
            if event.what == "start":
                if done[key] < before.get(event.id, -1):
                    early.append(event.id)
                if event.more.get("attempt", 1) >= self._rules.attempts:
                    last.add(event.id)
            elif event.what in ("effect", "dead") or (event.what == "fail" and event.id in last):
                done[key] = max(done[key], int(number))
        yield from _violation("I4", "started before one before them was done", early)

    def _predecessors(self) -> dict[str, int]:
        """Return for every message the number of the one that has to be done before it starts."""
        killers = self._of_script("killer")
        owed = {event.id for event in self._by_kind["ok"]} - killers
        before: dict[str, int] = {}
        latest: dict[str, int] = {}
        for id in self._sent:  # in the order in which they were sent
            key, _, number = id.rpartition("-")
            before[id] = latest.get(key, -1)
            if id in owed:
                latest[key] = int(number)
        return before

    def settled_after_work(self) -> Iterator[Violation]:
        """I5."""
        early = []
        for event in self._by_kind["settled"]:
            for id in event.more["ids"]:
                work = [*self._effects.get(id, ()), *self._dead.get(id, ())]
                if not any(done.time <= event.time for done in work):
                    early.append(id)
        yield from _violation("I5", "settled before their work was done", early)
        yield from _violation("I5", "looks found too few left", list(self._too_few_left()))

    def _too_few_left(self) -> Iterator[str]:
        """Yield what was seen when more was gone than was done: of what had been confirmed before that was counted."""
        done = sorted(min(event.time for event in events) for events in self._ends().values())
        for event in self._by_kind["counted"]:
            gone = self._owed_at(event.more["began"]) - event.more["left"]
            ended = bisect_right(done, event.time)
            if gone > ended:
                yield f"{gone} gone and {ended} done at {event.time:.3f}"

    def _ends(self) -> dict[str, list[Event]]:
        """Return what ended each message, one way or the other."""
        return {
            id: [*self._effects.get(id, ()), *self._dead.get(id, ())] for id in self._effects | self._dead
        }

    def _owed_at(self, time: float) -> int:
        return bisect_right(self._by_kind["ok"], time, key=lambda event: event.time)

    def dead_letters(self) -> Iterator[Violation]:
        """I6."""
        poisoned, killers = self._of_script("poison"), self._of_script("killer")
        owed = {event.id for event in self._by_kind["ok"]}
        alive = ((poisoned | killers) & owed) - self._dead.keys()
        yield from _violation("I6", "poisoned and not dead", sorted(alive))
        yield from _violation("I6", "dead and not poisoned", sorted(self._dead.keys() - poisoned - killers))
        wrong = [
            f"{event.id} after {event.more['attempts']}"
            for event in self._by_kind["dead"]
            if event.id in poisoned and event.more["attempts"] != self._rules.attempts
        ]
        yield from _violation(
            "I6", f"dead after another number of attempts than {self._rules.attempts}", wrong
        )

    def concurrency(self) -> Iterator[Violation]:
        """I7."""
        running: Counter[int] = Counter()
        most: Counter[int] = Counter()
        for event in self._history:
            if event.what == "start":
                running[event.by] += 1
                most[event.by] = max(most[event.by], running[event.by])
            elif event.what in ("effect", "fail", "cancelled"):
                running[event.by] -= 1
        over = [f"{pid}: {count}" for pid, count in most.items() if count > self._rules.concurrency]
        yield from _violation("I7", "processes ran too many messages at once", over)

    def liveness(self) -> Iterator[Violation]:
        """I8."""
        for event in self._by_kind["left"]:
            if event.more["waiting"] or event.more["pending"]:
                yield Violation("I8", f"left in the end: {dict(event.more)}")
        if not self._by_kind["left"]:
            yield Violation("I8", "nobody looked at what was left")
        silence = max(self._silences(), default=0.0)
        if silence > self._rules.patience:
            yield Violation("I8", f"no effect for {silence:.1f} s")

    def graceful_stops(self) -> Iterator[Violation]:
        """I9."""
        last = {event.by: event for event in self._history}
        for stop in self._by_kind["stopped"]:
            more = stop.more
            if more["code"] != 0 or more["seconds"] > self._rules.grace:
                yield Violation("I9", f"a stop took {more['seconds']:.1f} s and ended with {more['code']}")
            active = [pid for pid in more["processes"] if pid in last and last[pid].time > stop.time]
            yield from _violation("I9", "processes were active after their end", active)

    def _of_script(self, script: str) -> set[str]:
        return {id for id, event in self._sent.items() if event.more["script"] == script}

    # -- what they look at ---------------------------------------------------------------------------------------

    def _find_faults(self) -> Iterator[Fault]:
        healed = {event.more["number"]: event for event in self._by_kind["healed"]}
        latest = self._history[-1].time if self._history else 0.0
        each = self._rules.concurrency + self._rules.unsettled
        for event in self._by_kind["fault"]:
            end = healed.get(event.more["number"], attrs.evolve(event, time=latest))
            victims = frozenset([*event.more["victims"], *end.more["victims"]])
            yield Fault(event.more["name"], event.time, end.time, victims, each * len(victims))
        killers = self._of_script("killer")
        for event in self._by_kind["start"]:
            if event.id in killers:
                yield Fault("killer message", event.time, event.time, frozenset([event.by]), each)

    def _explain(self, pair: Sequence[Event]) -> int | None:
        """Return the number of the fault that explains two effects of a message: the one that began last."""
        reach = self._rules.reach
        for number in range(len(self._faults) - 1, -1, -1):
            fault = self._faults[number]
            struck = any(effect.by in fault.victims for effect in pair)
            if struck and any(fault.start - reach <= effect.time <= fault.end + reach for effect in pair):
                return number
        return None

    def _silences(self) -> list[float]:
        """Return the times between effects, while messages were sent."""
        sent = [event.time for event in self._by_kind["ok"]]
        until = max(sent, default=0.0)
        times = [event.time for event in self._by_kind["effect"] if event.time <= until]
        return [after - before for before, after in pairwise([*times, until] if times else [])]


def _violation(invariant: str, text: str, evidence: Sequence[Any]) -> Iterator[Violation]:
    if evidence:
        shown = ", ".join(map(str, evidence[:SHOWN]))
        yield Violation(invariant, f"{len(evidence)} {text}: {shown}{' ...' * (len(evidence) > SHOWN)}")
