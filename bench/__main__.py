"""The command line: which benches, how many pairs and messages, and where the JSON goes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click
import orjson

from bench import (
    engine,
    faststream,
    growth,
    kafka,
    latency,
    process,
    publish,
    rabbitmq,
    redis,
    tracing,
    waiting,
)
from bench.harness import Bench, Result, measure
from bench.probe import Findings, Probe, examine
from bench.report import as_data, conclude, show, wide_console

MODULES = (engine, redis, faststream, kafka, rabbitmq, publish, latency, waiting, growth, process, tracing)
BENCHES: dict[str, Bench | Probe] = {bench.name: bench for module in MODULES for bench in module.BENCHES}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(["all", *BENCHES]))
@click.option(
    "--pairs",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Turns of each contender; less than 5 prove nothing. What takes long has its own, lower number.",
)
@click.option("--messages", type=click.IntRange(1), help="In each turn; each bench has its own number.")
@click.option("--quick", is_flag=True, help="One turn with few messages: does it work at all?")
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write everything measured to this file.",
)
def main(names: tuple[str, ...], pairs: int, messages: int | None, quick: bool, file: Path | None) -> None:
    """Measure Pythia beside the bare client libraries, in turns, and against its goals: everything, or NAMES."""
    console = wide_console()
    results: list[Result | Findings] = []
    for name in BENCHES if "all" in names or not names else names:
        bench = BENCHES[name]
        if bench.needs is not None and find_spec(bench.needs) is None:
            console.print(f"{name} is left out: {bench.needs} is not installed; `nox -s bench` does that.\n")
            continue
        results.append(_run(bench, 1 if quick else pairs, messages or (bench.few if quick else None)))
        show(console, results[-1])
    conclude(console, results)
    if file is not None:
        file.write_bytes(orjson.dumps(as_data(results), option=orjson.OPT_INDENT_2))


def _run(bench: Bench | Probe, pairs: int, messages: int | None) -> Result | Findings:
    if isinstance(bench, Bench):
        return measure(bench, pairs=pairs, messages=messages)
    return examine(bench, pairs=pairs, messages=messages)


if __name__ == "__main__":
    main(prog_name="python -m bench")
