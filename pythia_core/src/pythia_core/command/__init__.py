"""The ``pythia`` command. Its help names every sub-command without importing one, so it is quick and hard to break."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from pythia_core.errors import PythiaError
from pythia_core.logs import escape
from pythia_core.nearest import did_you_mean
from pythia_core.secret import mask_url

if TYPE_CHECKING:
    from pythia_core.plugins import Discovery

__all__ = ["main"]

COMMANDS: Mapping[str, str] = {
    "run": "Run workers, one process or many.",
    "demo": "Watch Pythia work: no broker, no files, nothing to install.",
    "top": "Watch a running fleet.",
    "scale": "Set how many processes a running fleet has.",
    "pause": "Have a running fleet fetch nothing more.",
    "resume": "Have a paused fleet go on.",
    "check": "Say what is good and what is wrong about a worker.",
    "config": "Show every setting of a worker and where it comes from.",
    "send": "Send each line of standard input as a message.",
    "loadtest": "Measure a worker under a steady load, and what it lost.",
    "dead-letters": "List dead letters, or replay them.",
    "offsets": "Show how far a worker's group has read, or move it.",
    "plugins": "List and check the installed plugins.",
}
"""Pythia's own, in the order of the help, each in a module of its name, with _ for -, as ``command``."""


class Commands(click.Group):
    """Pythia's own commands, imported when they are called, and those of plugins."""

    @cached_property
    def _discovery(self) -> Discovery:
        from pythia_core import plugins

        return plugins.discover(os.environ)

    @cached_property
    def _from_plugins(self) -> dict[str, click.Command]:
        found = {command.name or "": command for command in self._discovery.commands()}
        return {name: command for name, command in found.items() if name not in COMMANDS}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names: Pythia's own first."""
        return [*COMMANDS, *sorted(self._from_plugins)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; plugins are only asked for what is not Pythia's own."""
        if cmd_name in COMMANDS:
            command: click.Command = import_module(
                f"pythia_core.command.{cmd_name.replace('-', '_')}"
            ).command
            return command
        return self._from_plugins.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command called, or say which was probably meant."""
        if args and self.get_command(ctx, args[0]) is None:
            broken = (
                " (a broken plugin may have it: see pythia plugins list)" if self._discovery.broken else ""
            )
            ctx.fail(
                f"there is no command {args[0]!r}; {did_you_mean(args[0], self.list_commands(ctx))}{broken}"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help from the table above, then what plugins add, then which plugins are broken."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        if self._from_plugins:
            with formatter.section("Commands of plugins"):
                rows = sorted(self._from_plugins.items())
                formatter.write_dl([(name, command.get_short_help_str(60)) for name, command in rows])
        if broken := self._discovery.broken:
            with formatter.section("Broken plugins (see pythia plugins list)"):
                formatter.write_dl([(info.name, escape(mask_url(info.error or ""), 200)) for info in broken])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of Pythia's own is one line, not a traceback."""
        try:
            return super().invoke(ctx)
        except PythiaError as error:
            raise click.ClickException(mask_url(str(error))) from None


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import platform

    from pythia_core.version import version

    click.echo(f"pythia {version()} (Python {platform.python_version()})")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Run message workers that lose nothing."""
