"""``pythia loadtest``: puts a worker under a steady load and prints the figures, and whether anything was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import click
import orjson
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pythia_core import logs
from pythia_core.command.output import bullet, console, json_option, mark, print_json
from pythia_core.errors import ConfigError
from pythia_core.loader import load_or_explain
from pythia_core.testing import LoadResults, LoadTester
from pythia_core.testing import Progress as Reached
from pythia_core.testing.plot import as_svg, as_text, milliseconds

__all__ = ["command"]

WIDEST = 90  # columns of a plot


@click.command()
@click.argument("target", metavar="FILE|MODULE[:CLASS]")
@click.option(
    "-n",
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Processes of each worker.",
)
@click.option(
    "--rate",
    default=100.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Messages a second.",
)
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="For how long messages are sent.",
)
@click.option("--keys", default=100, show_default=True, type=click.IntRange(min=1), help="Different keys.")
@click.option(
    "--pipeline",
    is_flag=True,
    help="Take all workers of the file for the stages of a pipeline, in its order: messages go to the first, and are done "
    "when the last has processed what came of them.",
)
@click.option(
    "--messages",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='A file whose lines, JSON each, are sent in turn; without one a message is {"id": 0}, {"id": 1} and so on.',
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write a plot of the latency over time, as an SVG.",
)
@json_option
def command(
    target: str,
    workers: int,
    rate: float,
    seconds: float,
    keys: int,
    pipeline: bool,
    file: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure a worker under a steady load, and what it lost.

    Messages are sent to where the worker reads, on its own broker, and processed by processes of it. Each is sent at its
    time whether or not the workers keep up, and latency counts from that time. Exits 1 unless each message that the
    broker confirmed was processed once, and in order where there is one.

    Example: pythia loadtest worker.py --workers 4 --rate 1000 --seconds 30
    """
    logs.configure("warning")
    kinds = load_or_explain(target) if pipeline else _one(target)
    if plot is not None:
        _write(plot, "")  # what cannot be written is told now
    with _progress() as watch:
        tester = LoadTester(
            worker_class=kinds,
            num_workers=workers,
            messages_per_second=rate,
            duration_seconds=seconds,
            message_factory=_bodies(file) if file else None,
            keys=keys,
            watch=watch,
        )
        results = anyio.run(_run, tester, backend="asyncio")
    if plot is not None:
        _write(plot, as_svg(results, f"{target}: {rate:g} messages a second, {_processes(workers)}"))
    if as_json:
        print_json(results.as_dict())
    else:
        _print(results)
    raise SystemExit(0 if results.proven else 1)


def _one(target: str) -> Sequence[Any]:
    kinds = load_or_explain(target)
    if len(kinds) > 1:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ConfigError(
            f"{target} defines several workers; name one, {target}:{kinds[0].__name__}, or take them for the stages of a "
            f"pipeline by --pipeline: {names}"
        )
    return kinds


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise ConfigError(f"the plot cannot be written: {error}") from None


def _processes(workers: int) -> str:
    return "1 process" if workers == 1 else f"{workers} processes"


def _bodies(file: Path) -> Callable[[int], Any]:
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    try:
        bodies = [orjson.loads(line) for line in lines]
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{file} has a line that is not JSON: {error}") from None
    if not bodies:
        raise ConfigError(f"{file} is empty; each of its lines is the body of a message, in JSON")
    return lambda number: bodies[number % len(bodies)]


async def _run(tester: LoadTester) -> LoadResults:
    try:
        return await tester.run()
    except OSError as error:
        raise ConfigError(f"the broker cannot be reached: {str(error) or 'it did not answer'}") from error


@contextmanager
def _progress() -> Iterator[Callable[[Reached], None]]:
    """Show how far it is, on a terminal; a pipe or a log gets only the figures."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda reached: None
        return
    columns = [TextColumn("{task.fields[sent]:,} sent, {task.completed:,.0f} done"), BarColumn()]
    with Progress(*columns, TimeElapsedColumn(), console=out, transient=True) as progress:
        task = progress.add_task("", total=None, sent=0)
        yield lambda reached: progress.update(
            task, total=reached.total, completed=reached.done, sent=reached.sent
        )


def _print(results: LoadResults) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for name, value in _rows(results):
        table.add_row(name, value)
    out = console()
    out.print(table)
    if drawn := as_text(results, min(WIDEST, out.width)):
        out.print(Text(f"\n{drawn}\n"))
    for text in _faults(results):
        out.print(bullet("error", text))
    if results.proven:
        order = ", in order" if results.order_violations == 0 else ""
        out.print(Text.assemble(mark("ok"), f" each of {results.sent:,} was processed once{order}"))


def _rows(results: LoadResults) -> Iterator[tuple[str, str]]:
    yield "processed a second", f"{results.avg_throughput:,.0f}"
    yield "latency on average", milliseconds(results.avg_latency)
    for percentile, latency in results.percentiles.items():
        yield f"latency of {percentile:g} %", milliseconds(latency)
    yield "failed attempts", f"{results.error_rate:.2%}"
    yield "processed by each", ", ".join(f"{count:,}" for count in results.by_worker)


def _faults(results: LoadResults) -> Iterator[str]:
    if unsent := results.messages - results.sent:
        yield f"{unsent:,} were not confirmed by the broker"
    if results.lost:
        yield f"{results.lost:,} were confirmed and no worker has seen them"
    if results.failed:
        yield f"{results.failed:,} failed at every attempt so far"
    if results.duplicates:
        yield f"{results.duplicates:,} times a message was processed again"
    if results.order_violations:
        yield f"{results.order_violations:,} began before the one before it of its key was done"
