"""How commands print: for people with colours and marks, for programs as JSON; one way, so that all look alike."""

from __future__ import annotations

import sys
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pythia_core.logs import escape
from pythia_core.secret import mask_url

__all__ = ["MARKS", "bullet", "console", "folded", "json_option", "mark", "print_json", "safe"]

WIDE = 10_000  # columns where nobody looks: what a program reads is never folded

MARKS = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "error": ("✗", "red")}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def console(*, stderr: bool = False) -> Console:
    """Return where to print; rich itself respects NO_COLOR and knows a terminal when it sees one."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream, highlight=False, emoji=False, markup=False, width=None if stream.isatty() else WIDE
    )


def safe(text: str) -> str:
    """Return text of strangers as it may be printed: one line, no control characters, no passwords in URLs."""
    return escape(mask_url(text))


def mark(level: str) -> Text:
    """Return the coloured mark of ``ok``, ``note``, ``warning`` or ``error``."""
    sign, style = MARKS[level]
    return Text(sign, style=style)


def bullet(level: str, text: str, *, indent: int = 0) -> Table:
    """Return a mark and a text that is folded between words, under itself."""
    style = MARKS[level][1] if level in ("error", "warning") else ""
    return folded(Text(text, style=style), indent=indent + 2, lead=mark(level))


def folded(text: Text, *, indent: int, lead: Text | None = None) -> Table:
    """Return a text that is folded between words, under itself, after ``indent`` columns that end with ``lead``."""
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=indent - 1, justify="right")
    row.add_column()
    row.add_row(lead or Text(), text)
    return row


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
