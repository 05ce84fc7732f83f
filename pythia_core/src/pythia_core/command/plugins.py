"""``pythia plugins``: which plugins there are, and whether what they bring keeps to the contracts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import attrs
import click
from rich.text import Text

from pythia_core.command.output import bullet, console, folded, json_option, mark, print_json, safe
from pythia_core.contract_check import contract_faults
from pythia_core.plugins import KINDS, Discovery, PluginInfo, discover

__all__ = ["command"]

MARK_OF = {"loaded": "ok", "blocked": "note", "broken": "error"}


@click.group()
def command() -> None:
    """List and check the installed plugins.

    PYTHIA_PLUGINS=only,these names those that may be loaded; PYTHIA_DISABLE_PLUGINS=not,these blocks some before they
    are imported, and wins.
    """


@command.command("list")
@json_option
def list_plugins(as_json: bool) -> None:
    """Show every plugin: its version, what it adds, where it is, and why it is not loaded."""
    infos = discover(os.environ).plugins
    if as_json:
        print_json([_as_dict(info) for info in infos])
        return
    _print(infos)


def _as_dict(info: PluginInfo) -> dict[str, Any]:
    shown = {**attrs.asdict(info), "status": info.status}
    shown["error"] = info.error and safe(info.error)
    return shown


def _print(infos: tuple[PluginInfo, ...]) -> None:
    names = max(len(info.name) for info in infos)
    sources = max(len(_origin(info)) for info in infos)
    out = console()
    for info in infos:
        head = Text.assemble(
            mark(MARK_OF[info.status]),
            (f" {info.name:<{names}}", "bold"),
            f"  {info.status:<7}  {_origin(info):<{sources}}  ",
            _adds(info),
        )
        out.print(Text(head.plain.rstrip(), spans=head.spans), soft_wrap=True)
        for detail, style in _details(info):
            out.print(folded(Text(detail, style=style), indent=2))


def _origin(info: PluginInfo) -> str:
    return f"{info.distribution} {info.version}".strip()


def _adds(info: PluginInfo) -> str:
    return ", ".join(hook.removeprefix("pythia_register_").replace("_", " ") for hook in info.hooks)


def _details(info: PluginInfo) -> Iterator[tuple[str, str]]:
    if info.path:
        yield safe(info.path), "dim"
    if info.error:
        yield safe(info.error), "red"
    if info.blocked:
        yield safe(info.blocked), "yellow"


@attrs.frozen
class Finding:
    """What checking found out about one thing that a plugin adds, or about the plugin itself."""

    plugin: str
    thing: str
    faults: tuple[str, ...] = ()


@command.command()
@json_option
def check(as_json: bool) -> None:
    """Call every hook, load every class, and see whether it implements its contract. Exits 1 if not."""
    discovery = discover(os.environ)
    findings = [*_check_things(discovery), *_check_commands(discovery)]
    findings += [Finding(info.name, "", (safe(info.error or ""),)) for info in discovery.broken]
    if as_json:
        print_json([attrs.asdict(finding) for finding in findings])
    else:
        _print_findings(findings)
    raise SystemExit(1 if any(finding.faults for finding in findings) else 0)


def _check_things(discovery: Discovery) -> Iterator[Finding]:
    for kind in KINDS:
        for info, answer in discovery.collect(kind):
            for name, factory in answer.items():
                faults = tuple(safe(fault) for fault in contract_faults(kind, factory))
                yield Finding(info.name, f"{KINDS[kind]} {name}", faults)


def _check_commands(discovery: Discovery) -> Iterator[Finding]:
    from pythia_core.command import COMMANDS

    for info, commands in discovery.collect_commands():
        for added in commands:
            taken = added.name in COMMANDS
            fault = (f"pythia {added.name} is Pythia's own command; give it another name",) if taken else ()
            yield Finding(info.name, f"command {added.name}", fault)


def _print_findings(findings: list[Finding]) -> None:
    out = console()
    for finding in findings:
        level = "error" if finding.faults else "ok"
        text = Text.assemble(mark(level), (f" {finding.plugin}", "bold"), f" {finding.thing}".rstrip())
        out.print(text)
        for fault in finding.faults:
            out.print(bullet("error", fault, indent=2))
    faulty = sum(1 for finding in findings if finding.faults)
    out.print(
        Text(f"{faulty} of {len(findings)} faulty" if faulty else f"all {len(findings)} good", style="bold")
    )
