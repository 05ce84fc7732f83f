"""``pythia scaling serve`` and ``pythia scaling scaledobject``: scaling that somebody else does, on Kubernetes by KEDA.

They stand apart from the commands that ask a running monitor: these know a worker file, as ``pythia run`` does.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pythia_core import Lookout
    from pythia_metrics.publishing import Publishing
    from pythia_metrics.publishing_http import PublishingMonitor

__all__ = ["scaledobject", "serve"]

INSTALL = "pip install './plugins/pythia_metrics[keda]'"
LEARN_SECONDS = 60.0  # for a process to import the worker

log = logging.getLogger("pythia.scaling")

Function = TypeVar("Function", bound=Callable[..., Any])


def _about_a_worker(function: Function) -> Function:
    """Add what both commands take."""
    options = (
        click.argument("target", metavar="FILE|MODULE[:CLASS]"),
        click.option("--name", help="What the number is asked for by. [default: the file's or class's]"),
        click.option(
            "--min",
            "least",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="The fewest pods.",
        ),
        click.option(
            "--max", "most", type=click.IntRange(min=1), default=8, show_default=True, help="The most pods."
        ),
        click.option(
            "--config", "file", type=click.Path(path_type=Path), help="A configuration file (TOML)."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@_about_a_worker
@click.option(
    "--pods",
    "places",
    metavar="HOST[:PORT]",
    multiple=True,
    required=True,
    help="Where pods answer: the name of a headless Service, or an address; repeatable. The port is 9464 unless said.",
)
@click.option("--policy", metavar="NAME", help="What decides. [default: the file's, or drain]")
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    default="8080",
    show_default=True,
    help="Where to answer over HTTP; without a host only this machine is answered.",
)
@click.option(
    "--grpc", metavar="[HOST:]PORT", help="Where to answer KEDA's external scaler, by the extra keda."
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file where what was learnt is kept, so that a restart need not learn it from late messages.",
)
def serve(
    target: str,
    name: str | None,
    least: int,
    most: int,
    file: Path | None,
    places: tuple[str, ...],
    policy: str | None,
    listen: str,
    grpc: str | None,
    state: Path | None,
) -> None:
    """Publish how many pods there should be, for KEDA: run one of it, however many workers there are.

    It starts no worker. It asks the broker how much is left, and each pod's /report what it does; the worker file is
    imported in a process of its own. Over HTTP it answers /v1/scaling/NAME, /metrics, /scaling and probes; if the
    environment has PYTHIA_SCALING_TOKEN, numbers are for whoever knows that.

    Example: pythia scaling serve worker.py --pods orders.default.svc --listen 0.0.0.0:8080 --grpc 0.0.0.0:9091
    """
    import anyio

    from pythia_core import Lookout, parse_address
    from pythia_metrics.keeping import Keeping
    from pythia_metrics.publishing import Publishing
    from pythia_metrics.publishing_http import PublishingMonitor
    from pythia_metrics.reaching import parse_places

    if least > most:
        raise click.UsageError(f"--min {least} is above --max {most}")
    pods, at = parse_places(places), parse_address(grpc) if grpc is not None else None
    overrides = {"scaling": {"kind": policy}} if policy else {}
    title = name or _name(target)
    monitor = PublishingMonitor(token=os.environ.get("PYTHIA_SCALING_TOKEN", ""))
    with closing(Lookout.open(target, file=file, overrides=overrides)) as lookout:
        publishing = Publishing(title, lookout, pods, least, most, Keeping(state, title), monitor)
        monitor.publishing = publishing
        _open(monitor, listen)
        try:
            anyio.run(_serve, publishing, at, backend="asyncio")
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            monitor.close()


def _first(error: BaseException) -> BaseException:
    """Return what went wrong, out of the group of the tasks that ended by it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _open(monitor: PublishingMonitor, listen: str) -> None:
    from pythia_core import ConfigError, parse_address

    host, port = parse_address(listen)
    try:
        monitor.open(host, port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {listen}: {error.strerror or error}; give another port by --listen, or end what listens there"
        ) from None


async def _serve(publishing: Publishing, at: tuple[str, int] | None) -> None:
    """Publish until SIGTERM or SIGINT."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(publishing.run)
            if at is not None:
                group.start_soon(_answer_keda, publishing, at)
            async for number in signals:
                log.info("%s: ending", number.name)
                group.cancel_scope.cancel()


async def _answer_keda(publishing: Publishing, at: tuple[str, int]) -> None:
    import anyio

    from pythia_core import ConfigError

    try:
        from pythia_metrics.keda.server import ExternalScaler
    except ModuleNotFoundError as error:
        raise ConfigError(f"--grpc needs {error.name}, which is not installed: {INSTALL}") from None
    scaler = ExternalScaler(publishing)
    port = await scaler.open(*at)
    log.info("KEDA's external scaler at %s:%d", at[0], port)
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await scaler.aclose()


@click.command()
@_about_a_worker
@click.option("--deployment", help="What is scaled. [default: the name]")
@click.option("--namespace", help="Where it is. [default: left to kubectl]")
@click.option(
    "--trigger",
    type=click.Choice(["metrics-api", "external-push", "native"]),
    default="metrics-api",
    show_default=True,
    help="Who says how many: pythia scaling serve over HTTP or gRPC, or KEDA's own scaler of the broker.",
)
@click.option(
    "--scaler", metavar="HOST:PORT", help="Where pythia scaling serve answers. [default: pythia-scaler]"
)
@click.option(
    "--scale-down-window",
    type=click.IntRange(min=0, max=3600),
    default=300,
    show_default=True,
    help="Seconds for which fewer must do; longer than a lull between bursts.",
)
@click.option("--exact", is_flag=True, help="Kubernetes is 1.35 or newer: scale out by any difference.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Messages a second of one pod, for native."
)
def scaledobject(
    target: str,
    name: str | None,
    least: int,
    most: int,
    file: Path | None,
    deployment: str | None,
    scaler: str | None,
    **wishes: Any,
) -> None:
    """Print a ScaledObject for KEDA, to be applied by kubectl.

    Example: pythia scaling scaledobject worker.py --trigger external-push --scaler pythia-scaler:9091
    """
    from pythia_core import Lookout
    from pythia_metrics.scaledobject import Wish, scaled_object

    if least > most:
        raise click.UsageError(f"--min {least} is above --max {most}")
    title = name or _name(target)
    port = 9091 if wishes["trigger"] == "external-push" else 8080
    wish = Wish(
        name=title,
        deployment=deployment or title,
        least=least,
        most=most,
        scaler=scaler or f"pythia-scaler:{port}",
        **wishes,
    )
    with closing(Lookout.open(target, file=file, overrides={"log_level": "warning"})) as lookout:
        workers = _learnt(lookout)
    click.echo(scaled_object(wish, workers), nl=False)


def _learnt(lookout: Lookout) -> list[Any]:
    """Return what a worker file has, as soon as the process that imports it has said it."""
    deadline = time.monotonic() + LEARN_SECONDS
    while not lookout.look() or not lookout.workers:
        if lookout.fault:
            raise click.ClickException(lookout.fault)
        if time.monotonic() > deadline:
            raise click.ClickException(f"{lookout.target} was not imported within {LEARN_SECONDS:g} s")
        time.sleep(0.05)
    return list(lookout.workers.values())


def _name(target: str) -> str:
    """Return a name that Kubernetes takes for a file, a module or a class: ``orders``, ``order-processor``."""
    path, _, kind = target.partition(":")
    file = Path(path)
    said = kind or (file.stem if file.suffix == ".py" else path.rpartition(".")[2])
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", said)
    return re.sub(r"[^a-z0-9]+", "-", apart.lower()).strip("-") or "worker"
