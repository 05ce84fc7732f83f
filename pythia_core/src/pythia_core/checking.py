"""Everything that can be known about a worker without running it, as findings in plain words.

It stands apart from ``pythia check``, which prints them, so that tests and tools get them as values. It prepares a worker
by the very code that runs it, :class:`~pythia_core.runtime.Runtime`, so the two cannot disagree.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs

from pythia_core.budget import memory_fault, memory_limit
from pythia_core.by_worker import ByWorker, opinions_of
from pythia_core.config import UNSET
from pythia_core.contracts import Backlog, Sink, Source
from pythia_core.engine.engine import effective_order
from pythia_core.errors import ConfigError, PythiaError
from pythia_core.handlers import is_async, takes_batches
from pythia_core.loader import load_workers
from pythia_core.outputs import cannot_delay
from pythia_core.plugins import Registry, discover
from pythia_core.returns import delaying_calls, returning_lines
from pythia_core.runtime import Runtime
from pythia_core.together import event_loop_options
from pythia_core.worker import NoSink, Worker, worker_name

__all__ = ["Finding", "Plan", "check_target"]

CONNECT_SECONDS = 10.0
KILL_SECONDS = 10.0  # between the end of a drain and the supervisor's kill

Level = Literal["ok", "note", "warning", "error"]
Fact = tuple[Level, str]


@attrs.frozen
class Finding:
    """One sentence about a worker, or about what it runs in (then ``worker`` is empty)."""

    level: Level
    text: str
    worker: str = ""


@attrs.frozen(kw_only=True)
class Plan:
    """How the workers are to be run.

    Args:
        environ: the environment variables.
        file: a configuration file.
        processes: how many there will be.
        limit: the memory they may use together in bytes; the control group's unless given, None if there is none.
        policy: what decides how many there are, as ``pythia run --policy`` names it; the configuration's if left out.
        connect: also connect to the brokers, for at most 10 s each; nothing is consumed or written.
    """

    environ: Mapping[str, str]
    file: Path | None = None
    processes: int = 1
    policy: str | None = None
    limit: int | None = attrs.field(factory=memory_limit)
    connect: bool = False


def check_target(target: str, plan: Plan) -> Iterator[Finding]:
    """Yield what is good and what is wrong about every worker of a target: ``FILE`` or ``MODULE``, or one ``:CLASS``."""
    discovery = discover(plan.environ)
    registry = discovery.registry()
    for info in discovery.broken:
        yield Finding("error", f"plugin {info} is broken: {info.error}")
    if os.geteuid() == 0:
        yield Finding("warning", "this is root: a worker needs no rights, so run it as a user of its own")
    try:
        kinds = load_workers(target)
    except ConfigError as error:
        yield Finding("error", str(error))
        return
    except (Exception, SystemExit) as error:
        yield Finding("error", f"importing {target} raised {_with_place(error)}")
        return
    for kind in kinds:
        name = worker_name(kind)
        yield from (Finding(level, text, name) for level, text in _check_worker(kind, plan, registry))


def _check_worker(kind: type[Worker[Any]], plan: Plan, registry: Registry) -> Iterator[Fact]:
    try:
        overrides = {"scaling": plan.policy}
        runtime = Runtime(
            kind(), overrides=overrides, environ=plan.environ, file=plan.file, registry=registry
        )
        event_loop_options([runtime])
    except PythiaError as error:
        yield "error", str(error)
        return
    except (Exception, SystemExit) as error:
        yield "error", f"making a {kind.__name__} raised {_with_place(error)}"
        return
    for look in (_reading, _work, _writing, _dead_lettering, _stopping, _timing):
        yield from look(runtime)
    yield from _scaling(kind, runtime)
    yield from _memory(runtime, plan)
    yield from _processors(runtime)
    for text in runtime.resolved.warnings:
        yield "warning", text
    if plan.connect:
        yield from anyio.run(_connect, runtime, backend="asyncio")


def _with_place(error: BaseException) -> str:
    """Return an error with the line of code it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


# What is known without connecting ---------------------------------------------------------------------


def _reading(runtime: Runtime) -> Iterator[Fact]:
    source = runtime.source
    group = f" as group {source.group}" if source.group else ""
    yield "ok", f"reads {source.name} by {type(source).__name__}{group}"
    order = effective_order(runtime.resolved.settings, source)
    if order == "none":
        return
    if source.capabilities.order_scope == "partition":
        yield "ok", f"keeps the order of messages by {order}"
    else:
        yield (
            "warning",
            (
                f"order={order!r} holds within one process only: {source.name} deals messages to whoever is free"
            ),
        )


def _work(runtime: Runtime) -> Iterator[Fact]:
    settings = runtime.resolved.settings
    name, most = "max_concurrent_tasks", settings.max_concurrent_tasks
    if takes_batches(runtime.worker):
        name, most = "batch_size", settings.batch_size
        yield (
            "ok",
            f"takes batches of up to {settings.batch_size}, or what came in {settings.batch_timeout:g} s",
        )
    else:
        what = "one message at a time" if most == 1 else f"up to {most} messages at once"
        yield "ok", f"processes {what} in each process"
    window = runtime.source.capabilities.window
    if window is not None and window < most:
        yield (
            "note",
            f"{runtime.source.name} lets no more than {window} out at a time, fewer than {name}={most}",
        )


def _writing(runtime: Runtime) -> Iterator[Fact]:
    name = "process_batch" if takes_batches(runtime.worker) else "process"
    if sink := _sink(runtime):
        yield "ok", f"sends what it returns to {sink.name} by {type(sink).__name__}"
    elif lines := returning_lines(getattr(runtime.worker, name)):
        where = ", ".join(map(str, lines))
        yield (
            "warning",
            f"has no sink, so what {name} returns is dropped (line {where}): write `sink = ...` in its class",
        )
    else:
        yield "note", "has no sink: if it returns anything, that is dropped"
    for line, attribute in delaying_calls(type(runtime.worker)):
        asked = sink if attribute == "sink" else getattr(runtime.worker, attribute, None)
        if isinstance(asked, Sink) and not asked.delays:
            yield "error", f"asks for a delay in line {line}, but {cannot_delay(asked)}"


def _dead_lettering(runtime: Runtime) -> Iterator[Fact]:
    if sink := _dead_letter(runtime):
        yield "ok", f"sends what cannot be processed to {sink.name} by {type(sink).__name__}"
    elif runtime.resolved.dead_letter is None:
        yield "warning", "has no dead letters: a message that cannot be processed stops its partition"
    else:
        yield (
            "error",
            (
                f"{runtime.source.name} has no natural place for dead letters: set dead_letter= to a sink, or to None to "
                "have a message that cannot be processed stop its partition"
            ),
        )


def _stopping(runtime: Runtime) -> Iterator[Fact]:
    drain = runtime.resolved.settings.drain_timeout
    yield (
        "ok",
        f"drains for up to {drain:g} s; let whoever stops it wait {drain + KILL_SECONDS:g} s before a kill",
    )


def _timing(runtime: Runtime) -> Iterator[Fact]:
    """Compare how long handlers may run with what waits for them. A drain and a revoke were compared at the start."""
    settings, lease = runtime.resolved.settings, runtime.source.capabilities.lease_seconds
    timeout, drain = settings.handler_timeout, settings.drain_timeout
    if timeout is not None and timeout > drain:
        text = f"a handler may run for {timeout:g} s (handler_timeout), but a stop waits only {drain:g} s (drain_timeout)"
        yield "warning", f"{text}: what runs longer is cut off and delivered again"
    if timeout is not None and not is_async(runtime.worker):
        text = "its handler is a plain function, in a thread that nothing can stop"
        yield (
            "warning",
            f"{text}: past handler_timeout it runs on, and its message is tried again only after that",
        )
    if lease is not None and (timeout is None or timeout > lease):
        text = f"{runtime.source.name} leases messages for {lease:g} s"
        yield "note", f"{text}: longer handlers keep theirs as long as the event loop is free to renew them"
    patience = runtime.source.capabilities.settle_seconds
    if patience is not None and timeout is None:
        text = f"{runtime.source.name} takes back what is not settled within {patience:g} s, and delivers it again"
        yield "note", f"{text}: set a handler_timeout below that if a handler may run for so long"


def _scaling(kind: type[Worker[Any]], runtime: Runtime) -> Iterator[Fact]:
    """Compare what a class says of scaling with whether anybody asks it."""
    answers = opinions_of(kind)
    if not isinstance(runtime.resolved.scaling, ByWorker):
        if answers:
            yield "note", f"nobody asks its {' and '.join(answers)}, but --policy worker, with a --max, would"
        return
    if not answers:
        text = "the policy worker asks its class, which defines neither should_scale_up nor should_scale_down"
        yield "error", f"{text}: write `async def should_scale_up(self) -> bool`, or take another policy"
    elif len(answers) == 2:
        yield "ok", f"is asked whether to scale every {runtime.worker.scale_check_interval:g} s"
    elif answers == ["should_scale_up"]:
        yield "warning", "defines no should_scale_down: there will be more processes, and never fewer again"
    else:
        yield "warning", "defines no should_scale_up: there will never be more processes than the fewest"


def _memory(runtime: Runtime, plan: Plan) -> Iterator[Fact]:
    bound = runtime.resolved.settings.max_memory_mb
    if fault := memory_fault(bound, plan.processes, plan.limit):
        yield "error", fault
    elif bound is not None:
        yield "ok", f"is drained and replaced once it uses {bound} MiB"
    elif plan.limit is not None:
        yield (
            "note",
            f"has no max_memory_mb: past this container's {plan.limit >> 20} MiB it is killed, undrained",
        )


def _processors(runtime: Runtime) -> Iterator[Fact]:
    if (bound := runtime.resolved.settings.max_cpu_percent) is not None:
        yield "ok", f"works on fewer messages at once while the processors are more than {bound:g} % busy"


def _sink(runtime: Runtime) -> Sink | None:
    """Return where outputs go: the worker's own sink, else the configuration's."""
    own, configured = runtime.worker.sink, runtime.resolved.sink
    return own if not isinstance(own, NoSink) else configured if isinstance(configured, Sink) else None


def _dead_letter(runtime: Runtime) -> Sink | None:
    chosen, place = runtime.resolved.dead_letter, runtime.source.dead_letters()
    if chosen is UNSET:
        return place[0] if place else None
    return chosen if isinstance(chosen, Sink) else None


# What only the brokers know ---------------------------------------------------------------------------


async def _connect(runtime: Runtime) -> list[Fact]:
    facts = [await _attempt(f"the source {runtime.source.name}", lambda: _ask(runtime.source))]
    for what, sink in (("the sink", _sink(runtime)), ("the place for dead letters", _dead_letter(runtime))):
        if sink is not None:
            facts.append(await _attempt(f"{what} {sink.name}", _look_at(sink)))
    return facts


async def _attempt(what: str, look: Callable[[], Awaitable[str]]) -> Fact:
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            return "ok", f"{what} {await look()}"
    except TimeoutError:
        return "error", f"{what} did not answer within {CONNECT_SECONDS:g} s"
    except Exception as error:
        return "error", f"{what} cannot be used: {_in_short(error)}"


def _in_short(error: Exception) -> str:
    """Return an error in words; those of Pythia's plugins need no name of a class before them."""
    name, text = type(error).__name__, str(error)
    return text if isinstance(error, PythiaError) or text.startswith(name) else f"{name}: {text}"


async def _ask(source: Source) -> str:
    async with source.inspect() as inspector:
        return _in_words(await inspector.backlog())


def _in_words(backlog: Backlog) -> str:
    if backlog.waiting is None:
        return "is there; how much waits is unknown"
    least = "at least " if backlog.at_least else ""
    return f"is there; {least}{backlog.waiting:,} waiting, {backlog.in_flight or 0:,} in flight"


def _look_at(sink: Sink) -> Callable[[], Awaitable[str]]:
    async def look() -> str:
        async with sink.fresh() as opened:
            await opened.check()
        return "can be written to"

    return look
