"""The command `pythia toy`."""

import click


@click.command()
def toy() -> None:
    """Say hello from a plugin."""
    click.echo("hello from the toy")
