"""``pythia send``: sends each line of standard input as a message, and says which lines did not arrive."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import attrs
import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from pythia_core import logs, plugins
from pythia_core.command.options import pairs
from pythia_core.command.output import bullet, console, json_option, mark, print_json, safe
from pythia_core.config.schema import build, options_of
from pythia_core.contracts import Sink
from pythia_core.errors import ConfigError
from pythia_core.nearest import did_you_mean
from pythia_core.sending import LineReader, Report, send_lines

__all__ = ["command", "make_sink"]

SHOWN = 20  # faults on a screen; --json has all of them
CLOSE_SECONDS = 5.0


@click.command()
@click.argument("kind")
@click.argument("options", metavar="[OPTION=VALUE]...", nargs=-1, callback=pairs)
@click.option(
    "--key-field", metavar="NAME", help="The field of each line's JSON that is its key; a.b is b within a."
)
@click.option(
    "--header",
    "headers",
    metavar="NAME=VALUE",
    multiple=True,
    callback=pairs,
    help="A header of every message; repeatable.",
)
@click.option(
    "--batch", default=500, show_default=True, type=click.IntRange(min=1), help="Most lines of one write."
)
@json_option
def command(
    kind: str,
    options: dict[str, str],
    key_field: str | None,
    headers: dict[str, str],
    batch: int,
    as_json: bool,
) -> None:
    """Send each line of standard input as a message.

    KIND is a registered sink, OPTION=VALUE one of its options. A line is sent as it is: JSON, which is what workers expect
    unless told otherwise, or any text. Empty lines are left out. Exits 1 if any line was not confirmed, and says which.

    Example: pythia send redis stream=orders --key-field customer < orders.jsonl
    """
    logs.configure("warning")
    sink = make_sink(kind, options, os.environ)
    reader = LineReader(sys.stdin.buffer)
    if sys.stdin.isatty():
        console(stderr=True).print(Text("one line, one message; Ctrl-D ends", style="dim"))
    began = time.perf_counter()
    with _progress(reader) as watch:
        report = anyio.run(_send, sink, reader, key_field, headers, batch, watch, backend="asyncio")
    seconds = time.perf_counter() - began
    place = safe(f"{kind} {sink.name}")
    if as_json:
        print_json({"sink": place, "seconds": round(seconds, 3), **_as_dict(report)})
    else:
        _print(report, place, seconds)
    raise SystemExit(1 if report.failed else 0)


def make_sink(kind: str, options: Mapping[str, Any], environ: Mapping[str, str]) -> Sink:
    """Return the sink that a command line describes.

    Raises:
        ConfigError: naming the kinds there are, or the options that the kind has.
        PluginError: if a plugin is broken.
    """
    sinks = plugins.load(environ).sinks
    if kind not in sinks:
        raise ConfigError(f"there is no sink {kind!r}; {did_you_mean(kind, sinks)}")
    try:
        made: Sink = build(sinks[kind], options, what=f"sink {kind}", origin="command line")
    except ConfigError as error:
        every = "".join(f"\n  {option}" for option in options_of(sinks[kind]).values())
        raise ConfigError(f"{error}\nOptions of sink {kind}:{every}") from None
    return made


async def _send(
    sink: Sink,
    reader: LineReader,
    key_field: str | None,
    headers: dict[str, str],
    batch: int,
    watch: Callable[[Report], None],
) -> Report:
    try:
        await sink.open()
        await sink.check()
        return await send_lines(
            sink, reader, key_field=key_field, headers=headers or None, batch=batch, watch=watch
        )
    except OSError as error:
        raise ConfigError(f"{sink.name} cannot be reached: {error}") from error
    finally:
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await sink.aclose()


@contextmanager
def _progress(reader: LineReader) -> Iterator[Callable[[Report], None]]:
    """Show how far it is, on a terminal; a pipe or a log gets only the summary."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda report: None
        return
    bar = [BarColumn()] if reader.size else []
    columns = [SpinnerColumn(), TextColumn("{task.fields[sent]:,} sent"), *bar, TimeElapsedColumn()]
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("", total=reader.size, sent=0)
        yield lambda report: progress.update(task, completed=reader.consumed, sent=report.sent)


def _as_dict(report: Report) -> dict[str, Any]:
    faults = [{**attrs.asdict(fault), "why": safe(fault.why)} for fault in report.faults]
    return {**attrs.asdict(report), "faults": faults}


def _print(report: Report, place: str, seconds: float) -> None:
    complain = console(stderr=True)
    for fault in report.faults[:SHOWN]:
        complain.print(bullet("error", safe(str(fault))))
    if len(report.faults) > SHOWN:
        complain.print(bullet("error", f"and {len(report.faults) - SHOWN:,} more; --json tells all"))
    if report.stopped_after is not None:
        text = f"stopped after line {report.stopped_after:,}: what follows was not sent"
        complain.print(bullet("error", text))
    if report.not_json:
        text = f"not JSON: {report.not_json:,} of them; a worker needs codec='text' to read those"
        complain.print(bullet("warning", text))
    console().print(_summary(report, place, seconds), soft_wrap=True)


def _summary(report: Report, place: str, seconds: float) -> Text:
    rate = (
        f", {report.sent / seconds:,.0f}/s" if seconds >= 0.5 and report.sent else ""
    )  # else it is the start's
    failed = f", {report.failed:,} failed" if report.failed else ""
    text = f" {report.sent:,} sent to {place} in {seconds:.1f} s{rate}{failed}"
    return Text.assemble(mark("error" if report.failed else "ok"), text)
