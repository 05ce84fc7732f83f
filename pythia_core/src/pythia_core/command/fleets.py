"""Finds the fleets that run on this machine, and speaks to one of them: what `top`, `scale`, `pause` and `resume` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pythia_core.supervisor.control import folder, request

__all__ = ["ask", "find", "find_all", "fleet_option"]

Function = TypeVar("Function", bound=Callable[..., Any])


def fleet_option(function: Function) -> Function:
    """Add ``--fleet`` to a command."""
    option = click.option(
        "--fleet",
        metavar="PID|CLASS|PATH",
        help="Which fleet: the process id of its supervisor, its worker where `pythia run --each` gave each worker one, or "
        "its control socket. Needed if several run.",
    )
    return option(function)


def find(fleet: str | None) -> Path:
    """Return the control socket of a fleet.

    Raises:
        click.ClickException: if there is none or it is not clear which one.
    """
    here = folder(os.environ)
    if fleet is not None:
        path = here / f"{fleet}.sock" if fleet.isdecimal() else _of_worker(here, fleet) or Path(fleet)
        if not path.exists():
            raise click.ClickException(f"there is no control socket {path}{_those(_living(here))}")
        return path
    living = find_all()
    if len(living) > 1:
        raise click.ClickException(f"several fleets run here; say which with --fleet{_those(living)}")
    return living[0]


def find_all() -> list[Path]:
    """Return the control sockets of all fleets, as they were started.

    Raises:
        click.ClickException: if there is none.
    """
    here = folder(os.environ)
    living = sorted(_living(here), key=lambda path: path.stat().st_ctime)
    if not living:
        raise click.ClickException(
            f"no fleet of this user runs here: none has a control socket in {here}. One that runs in a container or "
            "under another user can only be asked there"
        )
    return living


def ask(path: Path, message: dict[str, Any]) -> dict[str, Any]:
    """Return a fleet's answer.

    Raises:
        click.ClickException: if it gives none.
    """
    try:
        return request(path, message)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"the fleet at {path} does not answer: {error}") from None


def _living(here: Path) -> list[Path]:
    return sorted(path for path in here.glob("*.sock") if _answers(path))


def _of_worker(here: Path, name: str) -> Path | None:
    """Return the socket of the fleet that runs this class alone; of several it has to be said otherwise."""
    if not name.isidentifier():
        return None
    titles = {path: ask(path, {"do": "show"})["title"] for path in _living(here)}
    found = [path for path, title in titles.items() if title.rpartition(":")[2] == name]
    if len(found) > 1:
        raise click.ClickException(f"several fleets run {name}; say which by its number{_those(found)}")
    return found[0] if found else None


def _answers(path: Path) -> bool:
    try:
        return "title" in request(path, {"do": "show"}, seconds=1.0)
    except (OSError, ValueError):
        return False


def _those(paths: list[Path]) -> str:
    """Return which fleets there are, in words that follow others."""
    if not paths:
        return ""
    titles = [f"{path.stem} ({ask(path, {'do': 'show'})['title']})" for path in paths]
    return f": {', '.join(titles)}"
