"""Writes the references from the code, so that they cannot differ from it: ``python docs/generate.py``.

``--check`` writes nothing and fails if a page would change; the tests do the same.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pythia_core import WorkerConfig
from pythia_core.command import COMMANDS, main
from pythia_core.config.fields import FIELDS, GROUPS

FOLDER = Path(__file__).parent / "reference"
WIDTH = 100
GENERATED = "<!-- Written by docs/generate.py; edit what it reads instead. -->\n"


def pages() -> dict[Path, str]:
    """Return each page's text by its path."""
    return {
        FOLDER / "configuration.md": GENERATED + "\n" + "\n".join(_settings()) + "\n",
        FOLDER / "commands.md": GENERATED + "\n" + "\n".join(_commands()) + "\n",
    }


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield "Of a worker; what is said first counts: `-o NAME=VALUE` of `pythia run`, `WorkerConfig(NAME=VALUE)` in code, the"
    yield "environment variable, a TOML file's `[worker]`. `pythia config FILE` shows what a worker runs by, and why.\n"
    meaning = _arguments(WorkerConfig)
    for group in GROUPS.values():
        prefix = next(name for name, kind in GROUPS.items() if kind is group)
        meaning |= {f"{prefix}.{name}": text for name, text in _arguments(group).items()}
    yield "| setting | allowed | default | environment | |"
    yield "|---|---|---|---|---|"
    for name, field in FIELDS.items():
        default = "none" if field.default is None else f"{field.default}"
        yield f"| `{name}` | {field.allowed} | {default} | `{field.variable}` | {meaning[name]} |"
    yield "\nObjects, in code, or by `kind` and options in a file:\n"
    yield "| setting | |"
    yield "|---|---|"
    for name, text in meaning.items():
        if "." not in name and name not in FIELDS and name not in GROUPS:
            yield f"| `{name}` | {text} |"


def _arguments(kind: type) -> dict[str, str]:
    """Return what a docstring says of each argument, on one line."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+:|\Z)", text + "\n", re.MULTILINE | re.DOTALL)
    return {
        name: _plain(" ".join(said.split())) for name, said in found
    }  # the default has a column of its own


def _plain(text: str) -> str:
    """Return reStructuredText as Markdown, as far as docstrings use it."""
    text = re.sub(r"( \([^()]*\))?\.$", "", text)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", "\\|")


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "`pythia --help` names them all, those of plugins too. Where a program reads the answer there is `--json`.\n"
    context = click.Context(main, info_name="pythia", terminal_width=WIDTH, max_content_width=WIDTH)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield from _help(command, context, f"pythia {name}", "##")


def _help(command: click.Command, parent: click.Context, path: str, level: str) -> Iterator[str]:
    context = click.Context(command, parent=parent, info_name=path.split()[-1])
    yield f"{level} {path}\n"
    yield "```text"
    yield command.get_help(context)
    yield "```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _help(below, context, f"{path} {name}", level + "#")


def changed() -> list[Path]:
    """Return the pages that are not as the code has them."""
    return [path for path, text in pages().items() if not path.exists() or path.read_text() != text]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"not as the code has it: {', '.join(map(str, stale))}" if (stale := changed()) else 0)
    for path, text in pages().items():
        path.write_text(text)
        sys.stdout.write(f"{path}\n")
