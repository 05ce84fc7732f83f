"""The command line: which benches, how many pairs and messages, and where the JSON goes."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from bench import engine, redis
from bench.harness import Bench, measure
from bench.report import as_data, conclude, show, wide_console

BENCHES: dict[str, Bench] = {bench.name: bench for module in (engine, redis) for bench in module.BENCHES}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHES)))
@click.option(
    "--pairs",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Turns of each contender; less than 5 prove nothing.",
)
@click.option("--messages", type=click.IntRange(1), help="In each turn; each bench has its own number.")
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write everything measured to this file.",
)
def main(names: tuple[str, ...], pairs: int, messages: int | None, file: Path | None) -> None:
    """Compare Pythia with the bare client libraries, in turns: all benches, or those in NAMES."""
    console = wide_console()
    results = []
    for name in names or BENCHES:
        results.append(measure(BENCHES[name], pairs=pairs, messages=messages))
        show(console, results[-1])
    conclude(console, results)
    if file is not None:
        file.write_bytes(orjson.dumps(as_data(results), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main(prog_name="python -m bench")
