"""The demonstration: it runs on nothing but the core, and its auditor would notice if a promise were broken."""

import inspect
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from pythia_core.demo.audit import Check, Stop, audit
from pythia_core.demo.orders import ATTEMPTS, Order, make_orders
from pythia_core.demo.payments import Payments
from pythia_core.demo.screen import SilentScreen
from pythia_core.demo.shop import Shop
from pythia_core.demo.worker import OrderProcessor
from tests.command.conftest import Pythia

COLOUR = re.compile(r"\x1b\[(?!0m|m)[0-9;]*m")
DEMO = [sys.executable, "-c", "from pythia_core.command import main; main()", "demo"]


# The command -----------------------------------------------------------------------------------------


def test_it_keeps_every_promise_and_says_so_in_json(pythia: Pythia) -> None:
    """A program gets every check, the numbers, and exit code 0."""
    result = pythia("demo", "--messages", "400", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["holds"] is True
    assert [check["name"] for check in told["checks"] if not check["holds"]] == []
    assert len(told["checks"]) == 7
    assert (told["sent"], told["receipts"], told["waiting"]) == (400, 398, 0)
    assert sorted(int(letter["pythia-attempts"]) for letter in told["dead_letters"]) == [1, ATTEMPTS]


def test_without_a_terminal_it_prints_plain_lines(pythia: Pythia) -> None:
    """No escape sequence, no padding, and every part of the story: stop, new worker, dead letter, checks, what next."""
    result = pythia("demo", "--messages", "400")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert [line for line in result.output.splitlines() if line != line.rstrip()] == []
    for part in (
        "told to stop",
        "A new worker goes on",
        "400 orders sent = 398 receipts + 2 dead letters",
        "pythia-error-message  the card of customer",
        "async def process(self, message",
        "pythia run worker.py -n 4",
        "All 7 promises kept",
    ):
        assert part in result.output


def test_it_needs_no_healthy_plugin_and_ignores_settings(
    pythia: Pythia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demonstration is the same on every machine, also where something else is set up wrongly."""
    monkeypatch.setenv("PYTHIA_MAX_CONCURRENT_TASKS", "none of your business")
    monkeypatch.setenv("CONSUMER_GROUP", "strangers")
    monkeypatch.setenv("PYTHIA_PLUGINS", "not-installed")
    assert pythia("demo", "--messages", "100").exit_code == 0


def test_when_time_is_up_it_stops_gracefully(pythia: Pythia) -> None:
    """What is not done then is still in the broker, and nothing is lost."""
    result = pythia("demo", "--messages", "20000", "--seconds", "1", "--json")
    told = json.loads(result.output)
    assert told["waiting"] > 0
    assert told["receipts"] + len(told["dead_letters"]) + told["waiting"] == told["sent"] == 20_000
    assert result.exit_code == 0, result.output


def test_a_broken_promise_is_shown_and_exits_1(pythia: Pythia, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that acknowledges without a receipt is caught, though the engine did nothing wrong."""

    async def forgetful(self: OrderProcessor, message: Any) -> None:
        await self.payments.charge(message.body["number"], message.key)

    monkeypatch.setattr(OrderProcessor, "process", forgetful)
    result = pythia("demo", "--messages", "100", "--seconds", "1")
    assert result.exit_code == 1
    assert "✗  nothing lost" in result.output
    assert "promises were NOT kept" in result.output
    assert "pythia run worker.py" not in result.output


# On a terminal ---------------------------------------------------------------------------------------


def on_terminal(*arguments: str, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run the command on a pseudo-terminal; return its exit code and what it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*DEMO, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLUMNS": "90", "LINES": "50", **environ},
    )
    os.close(theirs)
    written = b"".join(read_all(ours))
    os.close(ours)
    return process.wait(30), written.decode()


def read_all(descriptor: int) -> Iterator[bytes]:
    """Yield what is written to a pseudo-terminal until its other end is closed, which Linux calls an error."""
    while True:
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:
            return
        if not chunk:
            return
        yield chunk


def test_on_a_terminal_figures_move_in_colour() -> None:
    """The figures are drawn again and again, and gone in the end."""
    code, written = on_terminal("--messages", "1500", environ={})
    assert code == 0, written
    assert written.count("in flight") > 3
    assert COLOUR.search(written)
    assert "in flight" not in written[written.index("What came of it") :]


def test_no_color_is_respected() -> None:
    """NO_COLOR leaves bold and movement, and takes the colours."""
    code, written = on_terminal("--messages", "500", environ={"NO_COLOR": "1"})
    assert code == 0, written
    coloured = [found for found in COLOUR.findall(written) if re.search(r"[\[;](3|4|9)[0-9]", found)]
    assert coloured == []


def test_no_line_is_wider_than_a_small_terminal(pythia: Pythia) -> None:
    """What is said before it starts fits 80 columns, so that it is not folded in the middle of a word."""
    said, *_ = re.split(
        r"^ +\d\.\d s ", pythia("demo", "--messages", "500").output, maxsplit=1, flags=re.MULTILINE
    )
    assert len(said) > 80
    assert [line for line in said.splitlines() if len(line) > 80] == []


def test_each_dead_letter_is_announced_once(pythia: Pythia) -> None:
    """Two of them, whichever partition each lies in."""
    said = pythia("demo", "--messages", "400").output
    assert len(re.findall(r"order-\d+ is a dead letter", said)) == 2


def test_ctrl_c_ends_it_gracefully() -> None:
    """An impatient user gets the same checks for what was done so far."""
    process = subprocess.Popen(
        [*DEMO, "--messages", "50000"], stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "in flight" in line:  # a second has passed and it is at work
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "still in the broker" in rest
    assert "ended early" in rest


# The auditor -----------------------------------------------------------------------------------------


@attrs.frozen
class Run:
    """What an honest run left behind, for tests to tamper with."""

    orders: Sequence[Order]
    payments: Payments
    stop: Stop
    end: Stop
    counters: Mapping[str, int]

    def checks(self, **changes: Any) -> dict[str, Check]:
        """Audit it, with some of it changed."""
        run = attrs.evolve(self, **changes)
        found = audit(run.orders, run.payments, run.stop, run.end, run.counters)
        return {check.name: check for check in found}

    def with_end(self, **changes: Any) -> Stop:
        """Return the end with other books."""
        return attrs.evolve(self.end, after=attrs.evolve(self.end.after, **changes))

    def with_stop(self, **changes: Any) -> Stop:
        """Return the stop with other books."""
        return attrs.evolve(self.stop, after=attrs.evolve(self.stop.after, **changes))


@pytest.fixture
def honest_run() -> Run:
    """Run a small shop."""
    shop = Shop(make_orders(300), seconds=30, screen=SilentScreen(), pause=0)
    outcome = anyio.run(shop.run)
    return Run(shop.orders, outcome.payments, outcome.stop, outcome.end, shop.counters)


def faults(checks: Mapping[str, Check]) -> list[str]:
    """Return the names of the promises that were not kept."""
    return [name for name, check in checks.items() if not check.holds]


def test_an_honest_run_passes(honest_run: Run) -> None:
    """Nothing is found where nothing is wrong."""
    assert faults(honest_run.checks()) == []


def lose_one(run: Run) -> dict[str, Any]:
    """Take the last receipt away."""
    return {"end": run.with_end(receipts=run.end.after.receipts[:-1])}


def repeat_one(run: Run) -> dict[str, Any]:
    """Write the last receipt twice."""
    return {"end": run.with_end(receipts=(*run.end.after.receipts, run.end.after.receipts[-1]))}


def swap_two(run: Run) -> dict[str, Any]:
    """Let two receipts of one customer change places."""
    plan = {order.number: order for order in run.orders}
    receipts = list(run.end.after.receipts)
    first = receipts[0]
    second = next(number for number in receipts[1:] if plan[number].customer == plan[first].customer)
    at = receipts.index(second)
    receipts[0], receipts[at] = second, first
    return {"end": run.with_end(receipts=tuple(receipts))}


def bury_a_good_one(run: Run) -> dict[str, Any]:
    """Let a good order end as a dead letter."""
    after = run.end.after
    letter = {"pythia-error": "ValueError", "pythia-attempts": "1"}
    end = run.with_end(
        receipts=after.receipts[:-1],
        dead=(*after.dead, after.receipts[-1]),
        letters=(*after.letters, letter),
    )
    return {"end": end}


def leave_one_held(run: Run) -> dict[str, Any]:
    """Let the stop leave an order held by the worker that is gone."""
    return {"stop": run.with_stop(pending=(1,))}


def acknowledge_too_early(run: Run) -> dict[str, Any]:
    """Let the stop settle an order that nobody finished."""
    return {"stop": run.with_stop(settled=(*run.stop.after.settled, run.stop.after.waiting[-1]))}


def count_wrongly(run: Run) -> dict[str, Any]:
    """Let the engine count one dead letter too many."""
    return {"counters": {**run.counters, "dead_lettered": run.counters["dead_lettered"] + 1}}


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (lose_one, "nothing lost"),
        (repeat_one, "nothing twice"),
        (swap_two, "order per key"),
        (bury_a_good_one, "poison put aside"),
        (leave_one_held, "graceful stop"),
        (acknowledge_too_early, "graceful stop"),
        (count_wrongly, "the engine agrees"),
    ],
)
def test_the_auditor_notices(honest_run: Run, tamper: Callable[[Run], dict[str, Any]], found: str) -> None:
    """Whatever is wrong is found under its own name."""
    assert found in faults(honest_run.checks(**tamper(honest_run)))


def test_the_auditor_notices_a_call_too_many(honest_run: Run) -> None:
    """An order that was called once more than its failures explain was repeated."""
    honest_run.payments.calls[honest_run.end.after.receipts[0]] += 1
    assert faults(honest_run.checks()) == ["failures retried"]


def test_the_auditor_notices_a_stall(honest_run: Run) -> None:
    """Orders that wait while nothing moves are not simply left over."""
    run = honest_run
    checks = audit(run.orders, run.payments, run.stop, run.end, run.counters, stalled=5.0)
    assert [check.name for check in checks if not check.holds] == ["nothing lost"]


async def test_the_payment_service_notices_two_of_a_customer_at_once() -> None:
    """A witness that never objects proves nothing."""
    mine = [order for order in make_orders(200) if order.customer == "customer-001" and order.fate == "fine"]
    payments = Payments(mine)
    async with anyio.create_task_group() as group:
        for order in mine[:2]:
            group.start_soon(payments.charge, order.number, order.customer)
    assert "at once" in payments.disorder[0]
    await payments.charge(mine[0].number, mine[0].customer)
    assert "after its order" in payments.disorder[1]


def test_the_code_that_is_shown_is_short() -> None:
    """A user's worker is the point of it all; indented by 2 instead of 4, it fits 80 columns."""
    file = inspect.getsourcefile(OrderProcessor)
    assert file is not None
    assert len(Path(file).read_text().splitlines()) < 50
    assert [line for line in inspect.getsource(OrderProcessor.process).splitlines() if len(line) > 82] == []
