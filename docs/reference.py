"""Writes the reference of settings and of commands from the code: ``python -m docs.reference``; a test compares them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pythia_core.command import main
from pythia_core.config import WorkerConfig
from pythia_core.config.fields import FIELDS, GROUPS, Field
from pythia_core.settings import Settings

FOLDER = Path(__file__).parent
WRITTEN = "It is written by `python -m docs.reference`, from the code."


def configuration() -> str:
    """Return docs/configuration.md."""
    said = {**described(Settings), **described(WorkerConfig)}
    for name, kind in GROUPS.items():
        said |= {f"{name}.{field}": text for field, text in described(kind).items()}
    objects = [name for name in described(WorkerConfig) if name not in FIELDS and name not in GROUPS]
    lines = [
        "# Settings",
        "",
        f"Every setting of a worker. {WRITTEN}",
        "",
        "The command line (`-o batch_size=100`) comes before the code (`WorkerConfig(batch_size=100)`), that before the",
        "environment, that before a file (TOML, `[worker]`), and that before the default. `pythia config worker.py` shows",
        "what a worker runs by, and where each value came from.",
        "",
        "| setting | default | allowed | environment | meaning |",
        "|---|---|---|---|---|",
        *(row(field, said[field.name]) for field in FIELDS.values()),
        "",
        "These are objects: in code they are made, in a file and the environment a kind is named, with its options.",
        "",
        "| setting | meaning |",
        "|---|---|",
        *(f"| `{name}` | {cell(said[name])} |" for name in objects),
    ]
    return "\n".join(lines) + "\n"


def row(field: Field, text: str) -> str:
    """Return a setting's row."""
    text = re.sub(
        r" \((?:[\d.,]+|None|False|`+\w+`+)\)(?=[.;])", "", text
    )  # the default has a column of its own
    return (
        f"| `{field.name}` | `{field.default}` | {cell(field.allowed)} | `{field.variable}` | {cell(text)} |"
    )


def described(kind: type) -> dict[str, str]:
    """Return what a class's docstring says of each of its arguments, in one line each."""
    _, _, arguments = (inspect.getdoc(kind) or "").partition("Args:\n")
    arguments = arguments.partition("\n\n")[0]
    found: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        else:
            found[name] += " " + line.strip()
    return found


def cell(text: str) -> str:
    """Return text as a cell of a table: no roles of Sphinx, no bars."""
    text = re.sub(r":\w+:`[~]?([^`]*)`", lambda match: f"`{match[1].rpartition('.')[2]}`", text)
    return text.replace("``", "`").replace("|", "\\|")


def commands() -> str:
    """Return docs/commands.md."""
    context = click.Context(main, info_name="pythia")
    parts = ["# Commands", "", f"Pythia's own commands, and then those of its plugins. {WRITTEN}", ""]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None, name
        parts += section(command, f"pythia {name}")
    return "\n".join(parts).rstrip() + "\n"


def section(command: click.Command, path: str) -> Iterator[str]:
    """Yield what there is to say of a command, and of those below it."""
    arguments = [part for part in command.params if isinstance(part, click.Argument)]
    words = " ".join([path, *(part.metavar or part.human_readable_name for part in arguments)])
    yield f"## {words}"
    yield ""
    yield cell(inspect.cleandoc(command.help or ""))
    yield ""
    options = [part for part in command.params if isinstance(part, click.Option)]
    if options:
        yield "| option | meaning |"
        yield "|---|---|"
        for option in options:
            yield f"| {spelt(option)} | {cell(option.help or '')}{default_of(option)} |"
        yield ""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from section(below, f"{path} {name}")


def spelt(option: click.Option) -> str:
    """Return the ways to write an option."""
    return ", ".join(f"`{way}`" for way in [*option.opts, *option.secondary_opts])


def default_of(option: click.Option) -> str:
    """Return what an option is if it is not given, where its help shows that."""
    default: Any = option.default
    return f" (`{default}`)" if option.show_default and not option.is_flag else ""


DOCUMENTS = {"configuration.md": configuration, "commands.md": commands}

if __name__ == "__main__":
    for file, write in DOCUMENTS.items():
        (FOLDER / file).write_text(write())
