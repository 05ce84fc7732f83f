"""``pythia scale``: sets how many processes a running fleet has."""

from __future__ import annotations

import re

import click

from pythia_core.command.fleets import ask, find, fleet_option

__all__ = ["command"]

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, or a number with s, m, h or d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
        if seconds <= 0:
            self.fail(f"{value!r} is no duration: 90, 90s, 15m, 1h and 1d are", param, ctx)
        return seconds


def _target(ctx: click.Context, parameter: click.Parameter, given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or not 1 <= int(given) <= 1_000:
        raise click.BadParameter(f"{given!r} is neither auto nor a number from 1 to 1000")
    return int(given)


@click.command()
@click.argument("target", metavar="N|auto", callback=_target)
@click.option(
    "--for", "seconds", type=Duration(), help="For how long, such as 90s, 15m or 1h; for ever if left out."
)
@fleet_option
def command(target: int | None, seconds: float | None, fleet: str | None) -> None:
    """Set how many processes a running fleet has, whatever its policy says.

    `auto` gives the number back: to the policy, or to what it was before. Surplus processes drain, the idlest first.
    """
    if target is None and seconds is not None:
        raise click.UsageError("--for goes with a number, not with auto")
    answer = ask(find(fleet), {"do": "scale", "target": target, "seconds": seconds})
    if answer["stopping"]:
        raise click.ClickException("the fleet is stopping, so nothing was changed")
    how = "back at" if target is None else "pinned to"
    click.echo(f"{how} {answer['target']}{f' for {seconds:,.0f} s' if seconds else ''}")
