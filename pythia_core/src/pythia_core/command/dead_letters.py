"""``pythia dead-letters``: lists dead letters without consuming them, and sends them back to where they came from."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import attrs
import click
import orjson
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pythia_core import logs
from pythia_core.command.options import pairs
from pythia_core.command.output import bullet, console, json_option, mark, print_json, safe
from pythia_core.dead_letters import DeadLetter, Place, Replay, Report, Selection, look, parse_since, place_of

__all__ = ["command"]

SHOWN = 100  # letters of a table, unless told otherwise

Command = Callable[..., None]


@click.group(name="dead-letters")
def command() -> None:
    """List dead letters, or replay them.

    Each asks for a worker, FILE or MODULE or either with :CLASS, or for a KIND of source with OPTION=VALUE for each of
    its options: the source that the messages were read from, not the place where the dead letters are.

    Example: pythia dead-letters replay orders.py --error TimeoutError --rate 50
    """


def _common(function: Command) -> Command:
    """Add what both commands ask for."""
    for decorate in reversed(
        (
            click.argument("target", metavar="WORKER|KIND"),
            click.argument("options", metavar="[OPTION=VALUE]...", nargs=-1, callback=pairs),
            click.option(
                "--config", "file", type=click.Path(path_type=Path), help="A configuration file (TOML)."
            ),
            click.option(
                "--place",
                metavar="OPTION=VALUE",
                multiple=True,
                callback=pairs,
                help="An option of the source that reads the dead letters, if they are elsewhere; repeatable.",
            ),
            click.option("--error", metavar="CLASS", help="Only of this error; * stands for any text."),
            click.option("--key", help="Only with this key."),
            click.option("--since", metavar="TIME", help="Only that failed since: 30m, 2h, 7d, or a date."),
            click.option("--limit", type=click.IntRange(min=1), help="No more than so many."),
            json_option,
        )
    ):
        function = decorate(function)
    return function


def _selection(error: str | None, key: str | None, since: str | None) -> Selection:
    moment = None if since is None else parse_since(since, datetime.now().astimezone())
    return Selection(error=error, key=key, since=moment)


# list -------------------------------------------------------------------------------------------------


@command.command(name="list")
@_common
def list_(
    target: str,
    options: Mapping[str, str],
    file: Path | None,
    place: Mapping[str, str],
    error: str | None,
    key: str | None,
    since: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show dead letters, oldest first, and leave them where they are.

    With --json each is an object on a line of its own, and all are shown unless there is a --limit.
    """
    logs.configure("warning")
    found = place_of(target, options, place, environ=os.environ, file=file)
    selection = _selection(error, key, since)
    letters: list[DeadLetter] = []
    most = limit if limit is not None or as_json else SHOWN

    def show(letter: DeadLetter) -> bool:
        if selection.wants(letter):
            if most is not None and len(letters) == most:
                letters.append(letter)
                return False
            if as_json:
                click.echo(_line(letter))
            letters.append(letter)
        return limit is None or len(letters) < limit

    anyio.run(look, found.reader, show, backend="asyncio")
    if not as_json:
        _print_letters(letters[:most], found, more=most is not None and len(letters) > most)


def _line(letter: DeadLetter) -> bytes:
    values = attrs.asdict(letter, filter=lambda field, _: field.name != "kept")
    values = {name: safe(value) if isinstance(value, str) else value for name, value in values.items()}
    return orjson.dumps(values)


def _print_letters(letters: list[DeadLetter], found: Place, *, more: bool) -> None:
    out = console()
    if not letters:
        out.print(Text.assemble(mark("ok"), f" no dead letters in {safe(found.reader.name)}"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("failed", "error", "from", "key", "attempts", "bytes", "worker"):
        right = name in ("attempts", "bytes")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for letter in letters:
        table.add_row(*map(_cell, _cells(letter)))
    out.print(table)
    more_of_them = "; there are more: --limit shows them" if more else ""
    noun = "dead letter" if len(letters) == 1 else "dead letters"
    out.print(Text(f"{len(letters):,} {noun} in {safe(found.reader.name)}{more_of_them}", style="bold"))


def _cell(text: str) -> Text:
    return Text(safe(text))


def _cells(letter: DeadLetter) -> tuple[str, ...]:
    error = letter.error.removeprefix("builtins.")
    return (
        letter.time.astimezone().isoformat(" ", "seconds") if letter.time else "unknown",
        f"{error}: {letter.text}" if letter.text else error,
        letter.place,
        "" if letter.key is None else letter.key,
        "" if letter.attempts is None else str(letter.attempts),
        f"{letter.size:,}, cut" if letter.reference else f"{letter.size:,}",
        letter.worker,
    )


# replay -----------------------------------------------------------------------------------------------


@command.command(name="replay")
@_common
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="NUMBER",
    help="No more than so many a second.",
)
@click.option(
    "--dry-run", "trial", is_flag=True, help="Write and settle nothing; say what would be replayed."
)
def replay(
    target: str,
    options: Mapping[str, str],
    file: Path | None,
    place: Mapping[str, str],
    error: str | None,
    key: str | None,
    since: str | None,
    limit: int | None,
    rate: float | None,
    trial: bool,
    as_json: bool,
) -> None:
    """Send dead letters back to where they came from, as they were.

    A dead letter is removed once its message is confirmed; what is not replayed stays. Ctrl-C ends it after the message at
    work, and repeats none; a kill or a lost connection may repeat what was just sent. Exits 1 if any of those asked for
    was not replayed, or if it was interrupted.
    """
    logs.configure("warning")
    found = place_of(target, options, place, environ=os.environ, file=file)
    run = Replay(found, _selection(error, key, since), limit=limit, rate=rate, trial=trial)
    began = time.perf_counter()
    with _progress(run) as run.watch:
        report = anyio.run(_until_interrupted, run, backend="asyncio")
    seconds = time.perf_counter() - began
    if as_json:
        print_json(_as_dict(report, found, seconds))
    else:
        _print_report(report, found, trial, seconds)
    raise SystemExit(1 if report.refused or report.references or report.interrupted else 0)


async def _until_interrupted(run: Replay) -> Report:
    """Replay; the first SIGINT or SIGTERM has the message at work be the last."""

    async def obey(*, task_status: Any) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                run.stop()

    wrong: Exception | None = None  # raised outside of the group, which would wrap it
    async with anyio.create_task_group() as group:
        await group.start(obey)
        try:
            await run.run()
        except Exception as error:
            wrong = error
        group.cancel_scope.cancel()
    if wrong is not None:
        raise wrong
    return run.report


@contextmanager
def _progress(run: Replay) -> Iterator[Callable[[Report], None]]:
    """Show how far it is, on a terminal; a pipe or a log gets only the summary."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda report: None
        return
    columns = [
        SpinnerColumn(),
        TextColumn("{task.fields[replayed]:,} replayed, {task.fields[seen]:,} seen"),
        BarColumn(),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("", total=None, replayed=0, seen=0)

        def watch(report: Report) -> None:
            progress.update(
                task, total=run.total, completed=report.seen, replayed=report.replayed, seen=report.seen
            )

        yield watch


def _as_dict(report: Report, found: Place, seconds: float) -> dict[str, Any]:
    values = attrs.asdict(report)
    return {
        "from": safe(found.reader.name),
        "to": safe(found.source.name),
        "seconds": round(seconds, 3),
        **values,
        "foreign": {safe(name): number for name, number in report.foreign.items()},
        "faults": [safe(fault) for fault in report.faults],
    }


def _print_report(report: Report, found: Place, trial: bool, seconds: float) -> None:
    complain = console(stderr=True)
    for fault in report.faults:
        complain.print(bullet("error", safe(fault)))
    if rest := report.refused + report.references - len(report.faults):
        complain.print(bullet("error", f"and {rest:,} more"))
    if report.interrupted:
        complain.print(bullet("error", "interrupted: what was not replayed is where it was"))
    stay = {
        "not selected": report.unselected,
        **{
            f"of {safe(name)}" if name != "no dead letters" else name: n for name, n in report.foreign.items()
        },
        "that cannot be replayed": report.references + report.refused,
    }
    stays = ", ".join(f"{number:,} {what}" for what, number in stay.items() if number)
    verb = "would be replayed" if trial else "replayed"
    text = f" {report.replayed:,} {verb} from {safe(found.reader.name)} to {safe(found.source.name)}"
    text += f" in {seconds:.1f} s" + (f"; there stay {stays}" if stays else "")
    failed = report.refused or report.references or report.interrupted
    console().print(Text.assemble(mark("error" if failed else "ok"), text), soft_wrap=True)
