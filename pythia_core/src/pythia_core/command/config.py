"""``pythia config``: shows every setting of a worker and where it comes from, secrets masked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from rich import box
from rich.table import Table
from rich.text import Text

from pythia_core.command.output import console, json_option, print_json, safe
from pythia_core.config import Row, resolve
from pythia_core.config.showing import show
from pythia_core.contracts import Source, Start
from pythia_core.loader import load_or_explain
from pythia_core.worker import NoSink, NoSource, Worker, worker_name

__all__ = ["command", "rows_of"]

FILLED_IN = "filled in at start"


@click.command()
@click.argument("target", metavar="FILE|MODULE[:CLASS]")
@click.option("--config", "file", type=click.Path(path_type=Path), help="A configuration file (TOML).")
@json_option
def command(target: str, file: Path | None, as_json: bool) -> None:
    """Show every setting of a worker and where it comes from.

    First comes what the command line says, then code, environment, file, default. Secrets are masked.
    """
    shown = {worker_name(kind): list(rows_of(kind(), os.environ, file)) for kind in load_or_explain(target)}
    if as_json:
        print_json({name: [attrs.asdict(row) for row in rows] for name, rows in shown.items()})
        return
    for name, rows in shown.items():
        _print(name, rows)


def rows_of(worker: Worker[Any], environ: Mapping[str, str], file: Path | None) -> Iterator[Row]:
    """Yield the settings of a worker, its own source and sink among them, and what its source fills in."""
    name = worker_name(type(worker))
    resolved = resolve(worker.config, environ=environ, file=file, worker=name)
    own: dict[str, Any] = {}
    if not isinstance(worker.source, NoSource):
        own["source"] = worker.source
    if not isinstance(worker.sink, NoSink):
        own["sink"] = worker.sink
    for row in resolved.rows():
        yield _clean(Row(row.name, show(own[row.name]), "code") if row.name in own else row)
        if row.name == "source":
            start = Start(name, concurrency=resolved.settings.max_concurrent_tasks, environ=environ)
            yield from _filled_in(own.get("source", resolved.source), start)


def _filled_in(source: Any, start: Start) -> Iterator[Row]:
    """Yield the options that a source fills in itself, from the environment or by its defaults."""
    if not isinstance(source, Source) or not attrs.has(type(source)):
        return
    made, kind = source.resolve(start), type(source)
    for field in attrs.fields(kind):  # type: ignore[arg-type]  # attrs.has has told
        before, after = getattr(source, field.name), getattr(made, field.name, None)
        if field.repr and before is not after and before != after:
            yield _clean(Row(f"source.{field.alias}", show(after), FILLED_IN))


def _clean(row: Row) -> Row:
    return attrs.evolve(row, value=safe(row.value), origin=safe(row.origin))


def _print(name: str, rows: list[Row]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=Text(name, style="bold"), title_justify="left", pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    for row in rows:
        style = "dim" if row.origin == "default" else ""
        table.add_row(
            Text(row.name, style=style), Text(row.value, style=style or "bold"), Text(row.origin, style=style)
        )
    console().print(table)
