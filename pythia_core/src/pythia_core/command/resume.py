"""``pythia resume``: has a paused fleet go on."""

from __future__ import annotations

import click

from pythia_core.command.fleets import ask, find, fleet_option

__all__ = ["command"]


@click.command()
@fleet_option
def command(fleet: str | None) -> None:
    """Have a paused fleet go on."""
    answer = ask(find(fleet), {"do": "resume"})
    if answer["stopping"]:
        raise click.ClickException("the fleet is stopping")
    click.echo("goes on")
