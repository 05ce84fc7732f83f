"""The supervisor's decisions: each invariant that the machine's module docstring promises, without a process or a clock."""

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pythia_core.supervisor.events import (
    Action,
    Asked,
    Died,
    Draining,
    End,
    Event,
    Fault,
    Kill,
    Loaded,
    Pin,
    Report,
    Say,
    Scale,
    Spawn,
    Tell,
    Tick,
    Tired,
)
from pythia_core.supervisor.fleet import processes
from pythia_core.supervisor.machine import Machine

KILLED = -9


@attrs.define(eq=False)
class World:
    """A machine, a clock that only the test moves, and all that was done so far."""

    machine: Machine
    now: float = 1000.0
    done: list[tuple[float, Action]] = attrs.field(factory=list)

    def feed(self, *events: Event) -> list[Action]:
        """Hand over events and return what came of them, log lines left out."""
        actions = [action for event in events for action in self.machine.handle(event, self.now)]
        self.done += [(self.now, action) for action in actions]
        return [action for action in actions if not isinstance(action, Say)]

    def ready(self, *numbers: int) -> list[Action]:
        """Let children load and get ready."""
        return [
            action for number in numbers for action in self.feed(Loaded(number), Report(number, ready=True))
        ]

    def later(self, seconds: float) -> list[Action]:
        """Let time pass in steps of a second, as the shell does, while every ready child reports."""
        actions = []
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            alive = [child.number for child in self.machine.children.values() if child.ready]
            actions += self.feed(*(Report(number, ready=True) for number in alive), Tick())
        return actions

    def said(self, text: str) -> list[str]:
        """Return the log lines with a text in them."""
        return [action.text for _, action in self.done if isinstance(action, Say) and text in action.text]


def world(processes: int = 2, *, random: float = 1.0) -> World:
    """Return a world in which the children are just started; jitter draws this number."""
    made = World(Machine(processes, lambda: random))
    made.feed(Tick())
    return made


def spawned(actions: list[Action]) -> list[int]:
    """Return the numbers of the children started."""
    return [action.number for action in actions if isinstance(action, Spawn)]


def told(actions: list[Action], command: str) -> list[int]:
    """Return the numbers of the children told so."""
    return [action.number for action in actions if isinstance(action, Tell) and action.command == command]


def ends(actions: list[Action]) -> list[int]:
    """Return the exit codes."""
    return [action.code for action in actions if isinstance(action, End)]


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 process"), (2, "2 processes"), (1000, "1,000 processes")]
)
def test_numbers_are_said_as_people_say_them(count: int, words: str) -> None:
    """One is no plural."""
    assert processes(count) == words
    w = world(1)
    w.ready(1)
    w.feed(Asked("roll"), Asked("more"), Asked("fewer"), Asked("stop"))
    assert w.said("rolling restart of 1 process, one at a time")
    assert w.said("one more: 2 processes") and w.said("one fewer: 1 process")


def test_all_children_start_at_once_with_slots_from_zero() -> None:
    """A fleet of three is three spawns, one per slot."""
    machine = Machine(3, lambda: 0.5)
    actions = machine.handle(Tick(), 0.0)
    assert [(action.number, action.slot) for action in actions if isinstance(action, Spawn)] == [
        (1, 0),
        (2, 1),
        (3, 2),
    ]


def test_a_slot_is_free_again_only_after_its_childs_death() -> None:
    """One slot, one process: a replacement takes the dead child's slot, a newcomer beside the living another."""
    w = world(2)
    w.ready(1, 2)
    [newcomer] = [action for action in w.feed(Asked("roll")) if isinstance(action, Spawn)]
    assert newcomer.slot == 2
    w.feed(Died(2, KILLED))
    [replacement] = [action for action in w.later(1) if isinstance(action, Spawn)]
    assert replacement.slot == 1


def test_a_stop_is_final() -> None:
    """Nothing starts once stopping, whatever dies or is asked for."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Died(1, KILLED))
    actions = w.feed(Asked("stop"), Asked("more"), Asked("roll")) + w.later(40)
    assert told(actions, "stop") == [2]
    assert spawned(actions) == []


@pytest.mark.parametrize(("gap", "forced"), [(0.0, False), (1.9, False), (2.0, True)])
def test_said_once(gap: float, forced: bool) -> None:
    """A burst of signals is one stop; a signal 2 s later or more forces, and a third changes nothing."""
    w = world(1)
    w.ready(1)
    actions = w.feed(Asked("stop"))
    w.now += gap
    actions += w.feed(Asked("stop"), Asked("stop"))
    assert told(actions, "stop") == [1]
    assert told(actions, "force") == ([1] if forced else [])


def test_a_child_that_is_leaving_already_is_not_told_again() -> None:
    """A scale-in, then a stop: one command, and the first deadline stays."""
    w = world(2)
    w.ready(1, 2)
    assert told(w.feed(Asked("fewer")), "stop") == [2]
    w.later(30)
    assert told(w.feed(Asked("stop")), "stop") == [1]
    assert w.later(5) == [Kill(2)]


def test_a_stop_does_not_prolong_a_drain_under_way() -> None:
    """A child that drains by itself keeps its first deadline."""
    w = world(1)
    w.ready(1)
    w.feed(Draining(1))
    w.later(30)
    w.feed(Asked("stop"))
    assert w.later(5) == [Kill(1)]


def test_killed_late() -> None:
    """A child that does not end is killed at its drain timeout and 10 s, once."""
    w = world(1)
    w.feed(Loaded(1, drain_timeout=3.0), Report(1, ready=True))
    w.feed(Asked("stop"))
    assert Kill(1) not in w.later(12.9)
    assert w.later(0.2) == [Kill(1)]
    assert w.later(60) == []
    assert ends(w.feed(Died(1, KILLED))) == [1]


def test_a_child_that_is_still_importing_is_not_waited_for() -> None:
    """It has nothing to drain: 5 s and it is killed."""
    w = world(1)
    w.feed(Asked("stop"))
    assert Kill(1) in w.later(5)


def test_after_force_a_child_has_ten_seconds() -> None:
    """Force moves the kill nearer."""
    w = world(1)
    w.ready(1)
    w.feed(Asked("stop"))
    w.later(3)
    w.feed(Asked("stop"))
    assert Kill(1) not in w.later(9.9)
    assert Kill(1) in w.later(0.1)


def test_restarts_never_give_up_and_never_hurry() -> None:
    """The wait doubles to 30 s and goes on for ever, as long as somebody else works."""
    w = world(2)
    w.ready(1)
    number, waits = 2, []
    for _ in range(12):
        w.feed(Died(number, KILLED))
        died = w.now
        [number] = spawned(w.later(31))
        waits.append(next(now for now, action in w.done if action == Spawn(number, 1)) - died)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30]


def test_a_second_wish_for_a_roll_changes_nothing() -> None:
    """The one under way goes on where it is, and says so."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Asked("roll"))
    roll = w.machine.roll
    assert w.feed(Asked("roll")) == []
    assert w.machine.roll is roll
    assert w.said("a rolling restart is under way")
    assert w.ready(3) == [Tell(1, "stop")]


def test_a_fault_is_said_once_until_somebody_is_ready() -> None:
    """All children say the same of a broken file; but after a mend and another break it is news again."""
    w = world(2)
    w.ready(1)
    w.feed(Fault(2, "broken"), Fault(1, "broken"))
    assert len(w.said("broken")) == 1
    w.feed(Died(2, 1))
    (three,) = spawned(w.later(2))
    w.ready(three)
    w.feed(Fault(three, "broken"))
    assert len(w.said("broken")) == 2


def test_a_child_that_drains_by_itself_is_no_longer_at_work() -> None:
    """It is not ready whatever it reports, nobody else is recycled meanwhile, and its reason is told, once."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Draining(1, ""), Report(1, ready=True))
    child = w.machine.children[1]
    assert (child.leaving, child.ready, child.state) == (True, False, "draining")
    assert w.feed(Tired(2)) == []
    assert w.said("process 1 drains by itself: it was sent SIGTERM")
    w.feed(Draining(1, "again"), Asked("stop"), Draining(2, "the supervisor says so"))
    assert len(w.said("drains by itself")) == 1


def test_every_end_is_said_as_what_it_was() -> None:
    """How it ended and what follows, graver where it was not meant to be."""

    def levels(text: str) -> list[str]:
        return [action.level for _, action in w.done if isinstance(action, Say) and text in action.text]

    w = world(3)
    w.ready(1, 2, 3)
    w.later(10)
    w.feed(Died(1, KILLED))
    assert levels("process 1 ended by SIGKILL; the next starts in 1.0 s") == ["error"]
    w.feed(Died(2, 75))
    assert levels("process 2 ended to be recycled (exit code 75); the next starts in 0.0 s") == ["info"]
    w.later(2)
    w.feed(Asked("fewer"))
    leaving = next(child.number for child in w.machine.children.values() if child.told)
    w.feed(Died(leaving, 0))
    assert levels(f"process {leaving} ended with exit code 0") == ["info"]
    w.feed(Asked("fewer"))
    leaving = next(child.number for child in w.machine.children.values() if child.told)
    w.feed(Died(leaving, 70))
    assert levels(f"process {leaving} ended stuck (exit code 70)") == ["warning"]


def test_a_death_in_a_roll_is_said() -> None:
    """The newcomer's is an error; that of one about to be replaced only came early."""
    w = world(1)
    w.ready(1)
    w.feed(Asked("roll"), Died(2, 1))
    assert w.said("process 2, which was to take over, ended with exit code 1")
    w.feed(Asked("roll"), Died(1, KILLED))
    assert w.said("process 1 ended by SIGKILL before it was replaced")


def test_a_hopeless_end_at_the_first_start_names_no_next_one() -> None:
    """There may be none; later there is one, and it is named."""
    w = world(2)
    w.feed(Fault(1, "wrong", hopeless=True), Died(1, 1))
    assert not w.said("the next starts in")
    w.ready(2)
    w.feed(Fault(2, "wrong", hopeless=True), Died(2, 1))
    assert w.said("process 2 ended with exit code 1; the next starts in")


def test_what_is_decided_is_said() -> None:
    """Whoever sends a signal sees what became of it."""
    w = world(1)
    w.ready(1)
    w.feed(Asked("fewer"))
    assert w.said("process 1 is ready") and w.said("one fewer would be none: the last process stays")
    w.feed(Asked("stop"), Asked("more"))
    assert w.said("stopping: 1 process to finish what was begun")
    assert w.said("asked for more, but a stop is under way")
    w.now += 2
    w.feed(Asked("stop"))
    assert w.said("asked again: work under way is abandoned")


def test_the_next_moment_that_matters_is_known() -> None:
    """A start that is due, a kill, the end of a roll's patience: the earliest that is still to come, and each once."""
    w = world(2)
    w.ready(1, 2)
    assert w.machine.wakeup(w.now) is None
    w.feed(Asked("roll"))
    assert w.machine.wakeup(w.now) == w.now + 60
    w.feed(Died(2, KILLED))
    assert w.machine.wakeup(w.now) == w.now + 1
    w.feed(Draining(1))
    assert w.machine.wakeup(w.now) == w.now + 1
    assert w.machine.wakeup(w.now + 1) == w.now + 35
    w.later(36)
    assert 1 in w.machine.children and w.machine.children[1].killed
    assert w.machine.wakeup(w.now) == w.now + 24


def test_a_child_that_had_been_ready_for_long_starts_the_backoff_anew() -> None:
    """A death after 10 s of work is the first failure again."""
    w = world(1)
    w.feed(Died(1, KILLED))
    w.later(1)
    w.ready(2)
    w.later(10)
    w.feed(Died(2, KILLED))
    assert spawned(w.later(1)) == [3]


def test_recycled_children_are_replaced_at_once_and_one_at_a_time() -> None:
    """Exit 75 after honest work costs no backoff; the second waits for the first's successor to be ready."""
    w = world(2)
    w.ready(1, 2)
    w.later(10)
    assert spawned(w.feed(Died(1, 75), Died(2, 75))) == [3]
    assert spawned(w.later(2)) == []
    assert spawned(w.ready(3)) == [4]


def test_recycled_one_at_a_time() -> None:
    """Who asks second goes when the first one's successor is ready; both go at once, and neither was a crash."""
    w = world(3)
    w.ready(1, 2, 3)
    w.later(10)
    assert w.feed(Tired(2, "memory"), Tired(1, "memory"), Tired(2, "memory")) == [Tell(2, "recycle")]
    assert w.feed(Draining(2, "it is recycled")) == []
    assert spawned(w.feed(Died(2, 75))) == [4]
    assert w.later(5) == []
    assert w.ready(4) == [Tell(1, "recycle")]
    assert spawned(w.feed(Died(1, 75))) == [5]
    assert w.ready(5) == []
    assert len(w.said("process 2 asks to be recycled: memory")) == 1


def test_a_successor_that_does_not_get_ready_does_not_hold_up_the_others_for_ever() -> None:
    """It has 60 s; a worker past its memory is worse than two that start."""
    w = world(2)
    w.ready(1, 2)
    w.later(10)
    w.feed(Tired(1), Tired(2), Died(1, 75))
    assert told(w.later(59), "recycle") == []
    assert told(w.later(2), "recycle") == [2]


@pytest.mark.parametrize("trouble", ["a roll", "a crash", "a scale-in"])
def test_nobody_is_recycled_while_another_child_is_missing(trouble: str) -> None:
    """Two at once would be two too few."""
    w = world(3)
    w.ready(1, 2, 3)
    w.later(10)
    events: dict[str, Event] = {
        "a roll": Asked("roll"),
        "a crash": Died(3, KILLED),
        "a scale-in": Asked("fewer"),
    }
    w.feed(events[trouble])
    assert told(w.feed(Tired(2)), "recycle") == []


def test_a_child_that_is_recycled_can_still_be_forced_and_killed() -> None:
    """A stop finds it on its way out; its deadline holds."""
    w = world(1)
    w.ready(1)
    assert w.feed(Tired(1)) == [Tell(1, "recycle")]
    assert w.feed(Asked("stop")) == []
    w.now += 2
    assert w.feed(Asked("stop")) == [Tell(1, "force")]
    assert Kill(1) in w.later(11)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([Fault(3, "cannot be loaded:\nSyntaxError: no"), Died(3, 1)], "process 3 ended (SyntaxError: no)"),
        ([Loaded(3), Died(3, 1)], "process 3 ended (waiting)"),
        ([Loaded(3)], "process 3 is not ready after 60 s (startup() is running)"),
    ],
)
def test_a_roll_says_why_it_halts(events: list[Event], why: str) -> None:
    """Which process, and its own words: the fault of one that ended, the reasons of one that is not ready."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Asked("roll"), *events)
    for _ in range(61):
        w.feed(Report(3, False, "itself", ("startup() is running",)))
        w.later(1)
    assert w.said("the rolling restart is halted: process 3") and w.said(why)


def test_a_child_that_recycles_at_birth_is_a_failure() -> None:
    """A memory limit below what the imports take must not become a loop without a wait."""
    w = world(1)
    w.ready(1)
    assert spawned(w.feed(Died(1, 75))) == []


def test_a_drained_child_is_replaced_at_once() -> None:
    """Somebody sent SIGTERM to the child itself: it drains, ends with 0, and its seat is filled."""
    w = world(1)
    w.ready(1)
    w.later(10)
    w.feed(Draining(1, "SIGTERM"))
    assert spawned(w.feed(Died(1, 0))) == [2]


def test_more_and_fewer() -> None:
    """One more is one spawn; one fewer drains the idlest; the last one stays."""
    w = world(1)
    w.ready(1)
    assert spawned(w.feed(Asked("more"), Asked("more"))) == [2, 3]
    w.ready(2, 3)
    w.feed(Report(1, True, busy=0.5), Report(2, True, busy=0.1), Report(3, True, busy=0.9))
    assert told(w.feed(Asked("fewer"), Asked("fewer")), "stop") == [2]
    assert told(w.feed(Died(2, 0)), "stop") == [1]
    assert w.feed(Died(1, 0), Asked("fewer")) == []
    assert list(w.machine.children) == [3]


def test_a_policy_scales_by_any_number_and_drains_one_at_a_time() -> None:
    """Up at once, down one after the other by idleness, never below one, and never after a stop began."""
    w = world(1)
    w.ready(1)
    assert spawned(w.feed(Scale(4, "lag"))) == [2, 3, 4]
    assert w.said("scaling from 1 to 4 processes: lag")
    w.ready(2, 3, 4)
    w.feed(Report(1, True, busy=0.9), Report(4, True, busy=0.8), Report(2, True, busy=0.2))
    assert told(w.feed(Scale(0)), "stop") == [3]
    assert w.machine.target == 1
    assert told(w.feed(Died(3, 0)), "stop") == [2]
    assert told(w.feed(Died(2, 0)), "stop") == [4]
    assert w.feed(Died(4, 0), Scale(1)) == []
    w.feed(Asked("stop"))
    assert w.feed(Scale(4)) == []


def test_pinned_until_it_ends() -> None:
    """No policy moves what an operator has pinned; afterwards it is what the policy wanted last, or what it was."""
    w = world(1)
    w.ready(1)
    assert spawned(w.feed(Pin(3, 60))) == [2, 3]
    w.ready(2, 3)
    assert w.feed(Scale(2)) == []
    assert w.machine.wakeup(w.now) == w.now + 60
    w.later(59)
    assert w.machine.target == 3
    assert len(told(w.later(1), "stop")) == 1
    assert (w.machine.target, w.said("its time is up: 2 processes")) == (2, w.said("no longer pinned"))


def test_what_is_pinned_can_be_pinned_anew_and_given_back() -> None:
    """The last word counts, and the way back is the one before the first."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Pin(4, 60), Pin(5))
    w.later(100)
    assert w.machine.target == 5
    w.feed(Pin(None))
    assert w.machine.target == 2
    w.feed(Pin(None), Pin(0))
    assert w.machine.target == 1
    assert w.said("is not pinned")
    w.feed(Asked("stop"), Pin(5))
    assert w.machine.target == 1


def test_all_pause() -> None:
    """Each loaded child is told once, what still imports when it has loaded, and what starts meanwhile starts so."""
    w = world(2)
    w.ready(1)
    assert told(w.feed(Asked("pause"), Asked("pause")), "pause") == [1]
    assert told(w.feed(Loaded(2)), "pause") == [2]
    w.feed(Asked("more"))
    assert w.machine.children[3].paused
    assert told(w.ready(3), "pause") == []
    assert told(w.feed(Asked("resume")), "resume") == [1, 2, 3]
    assert w.feed(Asked("resume")) == []
    w.feed(Asked("stop"))
    assert w.feed(Asked("pause")) == []


def test_fewer_takes_an_empty_seat_first() -> None:
    """A seat that waits for its backoff is given up before any child is."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Died(1, KILLED))
    assert w.feed(Asked("fewer")) == []
    assert w.later(40) == []


def test_a_roll_replaces_each_child_after_its_successor_is_ready() -> None:
    """New, ready, old stops, old ended, next: never fewer than before, never more than one above."""
    w = world(2)
    w.ready(1, 2)
    assert w.feed(Asked("roll")) == [Spawn(3, 2)]
    assert w.later(5) == []
    assert w.ready(3) == [Tell(1, "stop")]
    assert w.later(1) == []  # nobody else is begun while it drains
    assert w.feed(Died(1, 0)) == [Spawn(4, 0)]
    assert w.ready(4) == [Tell(2, "stop")]
    assert w.feed(Died(2, 0)) == []
    assert w.machine.roll is None
    assert w.said("rolling restart is done")


@pytest.mark.parametrize("how", ["late", "dead"])
def test_a_roll_halts_at_the_first_that_does_not_get_ready(how: str) -> None:
    """The old children keep running; the newcomer goes."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Asked("roll"), Loaded(3), Report(3, False, "broker", ("connection refused",)))
    actions = w.feed(Died(3, 1)) if how == "dead" else w.later(60)
    assert told(actions, "stop") == ([] if how == "dead" else [3])
    assert w.machine.roll is None
    assert w.said("halted")
    assert {1, 2} <= set(w.machine.children)
    assert told(w.feed(Asked("roll")), "stop") == []  # and it can be tried again
    assert w.machine.roll is not None


def test_a_child_that_dies_while_its_successor_starts_is_replaced_by_it() -> None:
    """No third process comes in."""
    w = world(1)
    w.ready(1)
    w.feed(Asked("roll"))
    assert w.feed(Died(1, KILLED)) == []
    assert w.ready(2) == []
    assert w.later(40) == []
    assert w.machine.roll is None


def test_a_wrong_file_ends_the_first_start() -> None:
    """Every child says that trying again would change nothing: say it once, and exit 1."""
    w = world(3)
    for number in (1, 2, 3):
        w.feed(Fault(number, "SyntaxError: worker.py line 3", hopeless=True))
    actions = w.feed(Died(1, 1), Died(2, 1))
    assert ends(actions) == []
    assert ends(w.feed(Died(3, 1))) == [1]
    assert len(w.said("worker.py line 3")) == 1


def test_one_child_that_cannot_start_does_not_end_the_others() -> None:
    """The odd one out is retried."""
    w = world(2)
    w.ready(1)
    w.feed(Fault(2, "ConfigError", hopeless=True))
    assert w.feed(Died(2, 1)) == []
    assert spawned(w.later(1)) == [3]


def test_a_wrong_file_later_is_retried_for_ever() -> None:
    """Once anybody was ready, a broken file is a deployment under way: it may be mended."""
    w = world(1)
    w.ready(1)
    w.feed(Died(1, KILLED))
    w.later(1)
    w.feed(Fault(2, "SyntaxError", hopeless=True))
    assert w.feed(Died(2, 1)) == []
    assert spawned(w.later(2)) == [3]


def test_five_minutes_without_anybody_ready_end_it() -> None:
    """A startup() that never returns is a reason of its own."""
    w = world(1)
    w.feed(Loaded(1))
    actions = []
    for _ in range(299):
        actions += w.feed(Report(1, False, "itself", ("startup() is running",))) + w.later(1)
    assert actions == []
    assert told(w.later(1), "stop") == [1]
    assert ends(w.feed(Died(1, 0))) == [1]
    assert w.said("startup() is running")


def test_a_broker_that_is_down_ends_nothing() -> None:
    """Waiting for a broker is no fault, however long it takes."""
    w = world(1)
    w.feed(Loaded(1))
    actions = []
    for _ in range(4000):
        actions += w.feed(Report(1, False, "broker", ("connection refused",))) + w.later(1)
    assert actions == []
    assert len(w.said("connection refused")) == 1


def test_a_silent_child_is_not_ready_and_not_restarted() -> None:
    """A blocked event loop is reported, and not acted on."""
    w = world(1)
    w.ready(1)
    actions = []
    for _ in range(11):
        w.now += 1
        actions += w.feed(Tick())
    assert actions == []
    assert w.machine.children[1].state == "silent"
    assert len(w.said("has not reported")) == 1
    w.feed(Report(1, ready=True))
    assert w.machine.children[1].state == "ready"


def test_a_clean_stop_ends_with_zero_when_the_last_child_has_ended() -> None:
    """One end, and not before."""
    w = world(2)
    w.ready(1, 2)
    w.feed(Asked("stop"))
    assert w.feed(Died(1, 0)) == []
    assert w.feed(Died(2, 75)) == [End(0)]
    assert w.later(5) == []


def test_a_child_that_fails_to_drain_ends_it_with_one() -> None:
    """The exit code tells whether the stop was clean."""
    w = world(1)
    w.ready(1)
    w.feed(Asked("stop"))
    assert ends(w.feed(Died(1, 1))) == [1]


class Anything(RuleBasedStateMachine):
    """Whatever happens in whatever order, the invariants hold."""

    @initialize(processes=st.integers(1, 4), random=st.floats(0, 1))
    def start(self, processes: int, random: float) -> None:
        """Start a fleet."""
        self.machine = Machine(processes, lambda: random)
        self.now = 0.0
        self.slots: dict[int, int] = {}
        self.commands: list[tuple[int, str]] = []
        self.drain: dict[int, float] = {}
        self.patience: dict[int, float] = {}
        self.kill_not_before: dict[int, float] = {}
        self.killed: set[int] = set()
        self.stop_asked: float | None = None
        self.may_force = False
        self.stopped = False
        self.ended = 0
        self.paused = False
        self.paused_children: dict[int, bool] = {}
        self.pinned: tuple[int, float] | None = None
        self.feed(Tick())

    def feed(self, event: Event) -> None:
        """Hand over an event and check each action as it comes."""
        for action in self.machine.handle(event, self.now):
            self.check(action)
        self.stopped = self.stopped or self.machine.stopping

    def check(self, action: Action) -> None:
        """What may be done in the present state."""
        if isinstance(action, Spawn):
            assert not self.stopped
            assert action.slot not in self.slots.values()
            self.slots[action.number] = action.slot
            self.paused_children[action.number] = self.paused
        elif isinstance(action, Tell) and action.command in ("pause", "resume"):
            assert self.paused_children[action.number] == (action.command == "resume")
            assert action.number not in {number for number, _ in self.commands}
            self.paused_children[action.number] = action.command == "pause"
        elif isinstance(action, Tell):
            assert action.number in self.slots
            assert (action.number, action.command) not in self.commands
            assert action.command != "force" or self.may_force
            if action.command == "recycle":
                assert not {number for number, _ in self.commands} & set(self.slots), (
                    "another is on its way out"
                )
            self.commands.append((action.number, action.command))
            self.begins_to_end(action.number, 10.0 if action.command == "force" else None)
        elif isinstance(action, Kill):
            assert action.number not in self.killed
            assert self.now >= self.kill_not_before[action.number]
            self.killed.add(action.number)
        elif isinstance(action, End):
            assert not self.slots
            self.ended += 1

    def begins_to_end(self, number: int, patience: float | None) -> None:
        """Keep the earliest moment at which a child may be killed."""
        moment = self.now + (self.patience.get(number, 5.0) if patience is None else patience)
        self.kill_not_before[number] = min(moment, self.kill_not_before.get(number, moment))

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0, 31.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        """A tick."""
        self.now += seconds
        if self.pinned is not None and self.now >= self.pinned[1] and not self.stopped:
            self.pinned = None
        self.feed(Tick())

    @rule()
    def sigterm(self) -> None:
        """A signal to stop."""
        if self.stop_asked is None:
            self.stop_asked = self.now
        self.may_force = self.may_force or self.now - self.stop_asked >= 2
        self.feed(Asked("stop"))

    @rule(wish=st.sampled_from(["roll", "more", "fewer"]))
    def wish(self, wish: str) -> None:
        """Another signal."""
        self.feed(Asked(wish))  # type: ignore[arg-type]

    @rule(wanted=st.integers(-1, 5))
    def policy(self, wanted: int) -> None:
        """A scaling policy wants another number."""
        before = self.machine.target
        self.feed(Scale(wanted))
        assert self.machine.target >= 1
        assert self.machine.target == before or self.pinned is None

    @rule(wanted=st.integers(1, 5), seconds=st.sampled_from([None, 1.0, 30.0]))
    def pin(self, wanted: int, seconds: float | None) -> None:
        """An operator pins the number."""
        self.feed(Pin(wanted, seconds))
        if not self.stopped:
            self.pinned = (wanted, float("inf") if seconds is None else self.now + seconds)
            assert self.machine.target == wanted

    @rule()
    def give_back(self) -> None:
        """An operator gives the number back."""
        self.feed(Pin(None))
        if not self.stopped:
            self.pinned = None

    @precondition(lambda self: not self.machine.stopping)
    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        """An operator pauses or resumes."""
        self.paused = paused
        self.feed(Asked("pause" if paused else "resume"))

    @precondition(lambda self: bool(self.slots))
    @rule(
        data=st.data(),
        what=st.sampled_from(["loaded", "ready", "not ready", "broker", "tired", "drains", "fault"]),
    )
    def child_speaks(self, data: st.DataObject, what: str) -> None:
        """A report of a living child."""
        number = data.draw(st.sampled_from(sorted(self.slots)))
        if what == "drains":
            self.begins_to_end(number, None)
        elif what not in ("fault", "tired"):
            self.patience[number] = 13.0 if what == "loaded" else self.patience.get(number, 35.0)
        events: dict[str, Event] = {
            "loaded": Loaded(number, 3.0),
            "ready": Report(number, True),
            "not ready": Report(number, False, "itself", ("starting",)),
            "broker": Report(number, False, "broker", ("down",)),
            "tired": Tired(number),
            "drains": Draining(number),
            "fault": Fault(number, "wrong", hopeless=True),
        }
        self.feed(events[what])

    @precondition(lambda self: bool(self.slots))
    @rule(data=st.data(), status=st.sampled_from([0, 1, 70, 75, -9]))
    def child_dies(self, data: st.DataObject, status: int) -> None:
        """A death."""
        number = data.draw(st.sampled_from(sorted(self.slots)))
        del self.slots[number]
        self.feed(Died(number, status))

    @invariant()
    def the_books_agree(self) -> None:
        """What the machine believes to live is what lives, and never too many."""
        if not hasattr(self, "machine"):
            return
        assert set(self.machine.children) == set(self.slots)
        staying = [child for child in self.machine.children.values() if child.told in ("", "recycle")]
        assert self.stopped or len(staying) <= max(self.machine.target, len(self.machine.seats)) + 1
        assert self.ended <= 1
        assert self.ended == (1 if self.stopped and not self.slots else 0)

    @invariant()
    def what_is_paused_knows_it(self) -> None:
        """Every child that can hear and goes on is as paused as the fleet."""
        if not hasattr(self, "machine"):
            return
        for child in self.machine.children.values():
            assert child.leaving or not child.loaded or self.paused_children[child.number] == self.paused
        assert self.machine.operator.pinned == (self.pinned is not None)

    @invariant()
    def nothing_due_is_forgotten(self) -> None:
        """Somebody who has to be killed or started will be: there is a wakeup, or it has been done."""
        if not hasattr(self, "machine"):
            return
        for child in self.machine.children.values():
            assert not child.told or child.kill_at is not None
        if not self.stopped and self.machine.roll is None:
            assert len(self.machine.seats) >= self.machine.target


TestAnything = Anything.TestCase
TestAnything.settings = settings(stateful_step_count=40)
