"""``pythia pause``: has a running fleet fetch nothing more."""

from __future__ import annotations

import click

from pythia_core.command.fleets import ask, find, fleet_option

__all__ = ["command"]


@click.command()
@fleet_option
def command(fleet: str | None) -> None:
    """Have a running fleet fetch nothing more until `pythia resume`.

    What is at work goes on, and processes that are started meanwhile wait too.
    """
    answer = ask(find(fleet), {"do": "pause"})
    if answer["stopping"]:
        raise click.ClickException("the fleet is stopping")
    click.echo("paused")
