"""``pythia offsets``: shows how far a worker's group has read, and moves it back or forward between two runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import click
from rich.table import Table
from rich.text import Text

from pythia_core import logs
from pythia_core.command.output import bullet, console, json_option, mark, print_json, safe
from pythia_core.contracts import Mark, Move, Seek, Source, Standing
from pythia_core.dead_letters.reading import parse_since
from pythia_core.moving import Plan, carry_out, look, make_plan
from pythia_core.single import runtime_of

__all__ = ["command"]

Command = Callable[..., None]


@click.group()
def command() -> None:
    """Show how far a worker's group has read, or move it.

    Each asks for a worker: FILE or MODULE, or either with :CLASS. Its own source and group are meant, as `pythia run` would
    use them. Stop the worker before a position is moved.

    Example: pythia offsets replay orders.py --since 2h
    """


def _target(function: Command) -> Command:
    """Add what every one of them asks for."""
    file = click.option(
        "--config", "file", type=click.Path(path_type=Path), help="A configuration file (TOML)."
    )
    return click.argument("target", metavar="WORKER")(file(json_option(function)))


def _moving(function: Command) -> Command:
    """Add what those ask for that move positions."""
    for decorate in reversed(
        (
            click.option(
                "--partition",
                "partitions",
                metavar="NAME",
                multiple=True,
                help="Only this one, by its name in `show`; repeatable.",
            ),
            click.option(
                "--force", is_flag=True, help="Also while somebody reads, where the broker allows it (Redis)."
            ),
            click.option("--yes", is_flag=True, help="Do it, without being asked."),
        )
    ):
        function = decorate(function)
    return function


def _source(target: str, file: Path | None) -> Source:
    logs.configure("warning")
    return runtime_of(target, environ=os.environ, file=file).source


# show -------------------------------------------------------------------------------------------------


@command.command()
@_target
def show(target: str, file: Path | None, as_json: bool) -> None:
    """Show how far the group has read, partition by partition, and who reads."""
    source = _source(target, file)
    standing = anyio.run(look, source, backend="asyncio")
    if as_json:
        print_json(_standing(source, standing))
    else:
        _print_standing(source, standing)


def _standing(source: Source, standing: Standing) -> dict[str, Any]:
    return {
        **_whose(source),
        "members": [safe(member) for member in standing.members],
        "notes": [safe(note) for note in standing.notes],
        "partitions": {safe(name): attrs.asdict(mark) for name, mark in standing.marks.items()},
    }


def _whose(source: Source) -> dict[str, Any]:
    return {"source": safe(source.name), "group": safe(source.group or "")}


def _print_standing(source: Source, standing: Standing) -> None:
    out = console()
    columns = ("partition", "position", "first", "end", "waiting", "pending", "oldest waits since")
    table = _table(columns, left=(0, len(columns) - 1))
    for name, found in standing.marks.items():
        table.add_row(*map(_cell, (name, *_cells(found))))
    out.print(table)
    out.print(Text(f"group {safe(source.group or '')} of {safe(source.name)}", style="bold"))
    _print_members(standing)


def _cells(found: Mark) -> tuple[str, ...]:
    waiting = "unknown" if found.waiting is None else f"{found.waiting:,}"
    return (
        "none yet" if found.position is None else found.position,
        found.first or "",
        found.end or "",
        f"at least {waiting}" if found.at_least else waiting,
        "" if found.pending is None else f"{found.pending:,}",
        "" if found.oldest is None else _time(found.oldest),
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(" ", "seconds")


def _table(columns: Collection[str], *, left: Collection[int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number in left else "right", overflow="fold")
    return table


def _cell(text: str) -> Text:
    return Text(safe(text))


def _print_members(standing: Standing) -> None:
    out = console()
    for member in standing.members:
        out.print(bullet("note", f"read by {safe(member)}"))
    if not standing.members:
        out.print(bullet("note", "nobody reads as this group now"))
    for note in standing.notes:
        out.print(bullet("note", safe(note)))


# reset, replay ----------------------------------------------------------------------------------------


@command.command()
@_target
@click.option(
    "--to", "place", metavar="PLACE", help="earliest, latest, or a position: an offset, an entry's id."
)
@click.option("--since", metavar="TIME", help="The first message since: 30m, 2h, 7d ago, or a date.")
@click.option("--by", "messages", type=int, metavar="NUMBER", help="So many messages on; back if negative.")
@_moving
def reset(
    target: str,
    file: Path | None,
    place: str | None,
    since: str | None,
    messages: int | None,
    partitions: tuple[str, ...],
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Have the group go on elsewhere, back or forward.

    What lies between is read again, or never read. Prints what would change, and changes it after a yes, typed or --yes;
    without a terminal and --yes it only prints.
    """
    seek = _seek(place, since, messages)
    _move(_source(target, file), seek, partitions, force=force, yes=yes, as_json=as_json)


@command.command()
@_target
@click.option("--since", required=True, metavar="TIME", help="30m, 2h, 7d ago, or a date.")
@_moving
def replay(
    target: str,
    file: Path | None,
    since: str,
    partitions: tuple[str, ...],
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Have the group read again what came since a time.

    It never goes forward: a partition that has not been read so far stays as it is. Prints what would change, and changes
    it after a yes, typed or --yes; without a terminal and --yes it only prints.
    """
    seek = _seek(None, since, None)
    _move(_source(target, file), seek, partitions, back_only=True, force=force, yes=yes, as_json=as_json)


def _seek(place: str | None, since: str | None, messages: int | None) -> Seek:
    if (place is not None) + (since is not None) + (messages is not None) != 1:
        raise click.UsageError("say where to, by one of --to, --since and --by")
    if since is not None:
        return Seek("time", seconds=parse_since(since, datetime.now().astimezone()).timestamp())
    if messages is not None:
        return Seek("by", messages=messages)
    if place == "earliest":
        return Seek("earliest")
    if place == "latest":
        return Seek("latest")
    return Seek("position", position=place or "")


def _move(
    source: Source,
    seek: Seek,
    partitions: Collection[str],
    *,
    back_only: bool = False,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Plan, show the plan, and carry it out if that is wanted."""
    make = partial(make_plan, source, seek, partitions=partitions, back_only=back_only)
    plan = anyio.run(make, backend="asyncio")
    if not as_json:
        _print_plan(source, plan)
    wanted = bool(plan.moves) and (yes or (not as_json and _agrees()))
    after = anyio.run(partial(carry_out, source, plan, force=force), backend="asyncio") if wanted else None
    if as_json:
        print_json(_plan(source, plan, after))
    elif after is not None:
        console().print(
            Text.assemble(mark("ok"), f" moved {_count(plan.moves)} of group {safe(source.group or '')}")
        )
    elif plan.moves:
        console().print(bullet("note", "nothing was changed; --yes does it"))


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _agrees() -> bool:
    return _is_terminal() and click.confirm("Move them?", default=False)


def _count(moves: Mapping[str, Move]) -> str:
    return f"{len(moves):,} partition" + ("s" if len(moves) != 1 else "")


def _plan(source: Source, plan: Plan, after: Standing | None) -> dict[str, Any]:
    moves = {
        safe(name): {"from": plan.before.marks[name].position, **attrs.asdict(move)}
        for name, move in plan.moves.items()
    }
    members = [safe(member) for member in plan.before.members]
    positions = None if after is None else {safe(name): found.position for name, found in after.marks.items()}
    return {
        **_whose(source),
        "members": members,
        "moves": moves,
        "moved": after is not None,
        "after": positions,
    }


def _print_plan(source: Source, plan: Plan) -> None:
    out = console()
    if not plan.moves:
        out.print(Text.assemble(mark("ok"), f" group {safe(source.group or '')} stays where it is"))
        return
    table = _table(("partition", "from", "to", "which means"), left=(0, 3))
    for name, move in plan.moves.items():
        before = plan.before.marks[name].position or "none yet"
        table.add_row(*map(_cell, (name, before, move.to, _meaning(move))))
    out.print(table)
    _print_members(plan.before)


def _meaning(move: Move) -> str:
    if not move.again:
        return "nothing is read again or left out"
    number = f"{'at least ' if move.at_least else ''}{abs(move.again):,}"
    return f"{number} read again" if move.again > 0 else f"{number} never read"
