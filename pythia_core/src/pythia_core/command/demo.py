"""``pythia demo``: shows Pythia at work with nothing installed but the core, and proves what it promises by counting."""

from __future__ import annotations

import inspect
import logging
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import attrs
import click
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from pythia_core.command.output import console, json_option, mark, print_json, safe
from pythia_core.demo.audit import Check
from pythia_core.demo.orders import ATTEMPTS, Order, make_orders
from pythia_core.demo.screen import LiveScreen, PlainScreen, SilentScreen
from pythia_core.demo.shop import Outcome, Shop
from pythia_core.demo.worker import OrderProcessor

__all__ = ["command"]

WIDEST = 100  # columns; longer lines are hard to read
NEXT = (
    ("pythia demo --messages 100000", "more of it; press Ctrl-C in the middle"),
    ("pythia plugins list", "which brokers are installed"),
    ("pythia check worker.py", "what is good or wrong about your own worker"),
    ("pythia run worker.py -n 4", "four processes of it, supervised"),
)


@click.command()
@click.option(
    "--messages",
    default=20_000,
    show_default=True,
    type=click.IntRange(100, 500_000),
    help="How many orders.",
)
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Stop gracefully after so long, done or not.",
)
@json_option
def command(messages: int, seconds: float, as_json: bool) -> None:
    """Watch Pythia work: no broker, no files, nothing to install.

    A worker charges thousands of orders, keyed by customer. Some charges fail and are tried again, one never succeeds,
    one order cannot be read. Halfway the worker is stopped and a new one goes on. Then every promise is checked by
    counting what lies in the broker and what the payment service saw. Exits 1 if one was not kept.
    """
    orders = make_orders(messages)
    out = console()
    if not as_json:
        _introduce(out, orders)
    with _quiet_log(), _screen(out, as_json) as screen:
        outcome = anyio.run(Shop(orders, seconds=seconds, screen=screen).run, backend="asyncio")
    if as_json:
        print_json(_as_dict(outcome))
    else:
        _conclude(out, outcome)
    raise SystemExit(0 if outcome.holds else 1)


def _screen(out: Console, as_json: bool) -> SilentScreen:
    if as_json:
        return SilentScreen()
    return LiveScreen(out) if out.is_terminal and not out.is_dumb_terminal else PlainScreen(out)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep the engine's log off the screen: the failures it reports are those that the demonstration makes."""
    logger = logging.getLogger("pythia")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


# Before and after ------------------------------------------------------------------------------------


def _introduce(out: Console, orders: list[Order]) -> None:
    customers = len({order.customer for order in orders})
    failing = sum(bool(order.failures) for order in orders)
    out.print(
        Text.assemble("\n", ("Pythia at work", "bold"), ", all in this process and nothing installed\n")
    )
    for line in (
        f"{len(orders):,} orders of {customers} customers lie in a broker. A worker charges 20 at",
        "a time, but those of one customer one after the other, in turn. The payment",
        f"service is unreliable: {failing:,} charges fail at first, one card is always refused.",
        "And one order cannot be read.",
    ):
        out.print(Text(f"  {line}"), soft_wrap=True)
    out.print()


def _conclude(out: Console, outcome: Outcome) -> None:
    _title(out, "What came of it", ", counted in the broker and by the payment service")
    _rows(out, [_row(check) for check in outcome.checks])
    _show_dead_letter(out, outcome)
    if outcome.holds:
        _show_worker(out)
        _title(out, "Next", "")
        _rows(out, [(Text(line, style="cyan"), _dim(what)) for line, what in NEXT])
    out.print(_verdict(outcome), soft_wrap=True)


def _title(out: Console, title: str, rest: str) -> None:
    out.print(Text.assemble("\n", (title, "bold"), (rest, "dim"), "\n"), soft_wrap=True)


def _rows(out: Console, rows: Sequence[Sequence[Text]]) -> None:
    """Print a table whose last column is folded on a terminal, and nowhere else."""
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    if out.is_terminal:
        table = Table.grid(padding=(0, 2, 0, 0))
        for width in (0, *widths[:-1]):
            table.add_column(width=width, no_wrap=True)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row("", *row)
        out.print(table, width=min(out.width, WIDEST))
        return
    for row in rows:
        cells = [cell.plain.ljust(width) for cell, width in zip(row, widths, strict=True)]
        out.print(Text("  " + "  ".join(cells).rstrip()), soft_wrap=True)


def _dim(text: str) -> Text:
    return Text(text, style="dim")


def _row(check: Check) -> tuple[Text, Text, Text]:
    style = "" if check.holds else "red"
    name = Text(check.name, style=style or "bold")
    return mark("ok" if check.holds else "error"), name, Text(safe(check.text), style=style)


def _show_dead_letter(out: Console, outcome: Outcome) -> None:
    """Show what stands beside the body of the dead letter that was tried most often."""
    letters = sorted(outcome.end.after.letters, key=lambda headers: int(headers["pythia-attempts"]))
    if not letters:
        return
    headers = letters[-1]
    where = f", {headers['pythia-id']} in the topic orders.dlq, by its headers"
    _title(out, "A dead letter", where)
    _rows(out, [(Text(safe(name), style="cyan"), Text(safe(value))) for name, value in headers.items()])


def _show_worker(out: Console) -> None:
    source = textwrap.dedent(inspect.getsource(OrderProcessor.process)).rstrip()
    _title(out, "All the code it took", f", in {inspect.getsourcefile(OrderProcessor)}")
    if out.color_system:
        code = Syntax(source, "python", theme="ansi_dark", background_color="default")
        out.print(Padding(code, (0, 0, 0, 2)))
    else:
        out.print(Text(textwrap.indent(source, "  ")), soft_wrap=True)


def _verdict(outcome: Outcome) -> Text:
    broken = sum(not check.holds for check in outcome.checks)
    kept = len(outcome.checks) - broken
    if broken:
        text = f"\n{broken} of {len(outcome.checks)} promises were NOT kept; please report it with the lines above.\n"
        return Text(text, style="bold red")
    early = ", ended early" if outcome.end.after.waiting else ""
    return Text(
        f"\nAll {kept} promises kept, in {outcome.seconds:.1f} s of work{early}.\n", style="bold green"
    )


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    books = outcome.end.after
    return {
        "holds": outcome.holds,
        "seconds": round(outcome.seconds, 3),
        "interrupted": outcome.interrupted,
        "sent": len(books.sent),
        "receipts": len(books.receipts),
        "waiting": len(books.waiting),
        "calls": outcome.payments.called,
        "failed_calls": outcome.payments.failed,
        "attempts_allowed": ATTEMPTS,
        "stop": {
            "fetched": outcome.stop.fetched,
            "finished": outcome.stop.finished,
            "given_back": outcome.stop.given_back,
            "seconds": round(outcome.stop.seconds, 3),
        },
        "dead_letters": [dict(headers) for headers in books.letters],
        "checks": [attrs.asdict(check) for check in outcome.checks],
    }
