"""Runs a function that blocks beside the event loop: in a thread, or in a process, which can be killed.

It stands apart from the worker, which keeps nothing of ours, and from the runtime, which only sets the bounds. The
processes are :mod:`anyio.to_process`'s: fresh interpreters, never forks, used again, killed when their caller is
cancelled. What it leaves open is closed here: they die with this process however that ends, a signal for a whole group of
processes ends no job, a job's error finds its way back, and its ``sys.exit`` costs no neighbour its process.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio
import anyio.to_process
import anyio.to_thread

from pythia_core.errors import BrokenProcess

__all__ = ["in_process", "in_thread", "is_offloaded", "processes", "processors", "threads"]

Result = TypeVar("Result")

threads: ContextVar[anyio.CapacityLimiter | None] = ContextVar("pythia_threads", default=None)
"""Bounds the threads of the worker whose task this is; set by its runtime."""

processes: ContextVar[anyio.CapacityLimiter | None] = ContextVar("pythia_processes", default=None)
"""The same for its processes."""

PR_SET_PDEATHSIG = 1
SENDABLE = (
    "only a function of a module can be, no lambda or method of the worker, with plain arguments and results"
)
ORPHAN_SECONDS = 1.0  # how often a process looks for its parent where the kernel does not tell


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


async def in_thread(func: Callable[..., Result], *args: Any) -> Result:
    """Run it in a thread; when cancelled, wait for the thread, since nothing can stop it."""
    return await anyio.to_thread.run_sync(func, *args, limiter=threads.get())


async def in_process(func: Callable[..., Result], *args: Any) -> Result:
    """Run it in another process; when cancelled, kill that.

    Raises:
        BrokenProcess: if the process died.
        Exception: what the function raised, with the traceback of there as a note; or what says that it cannot be sent.
    """
    name = getattr(func, "__qualname__", repr(func))
    try:
        return await anyio.to_process.run_sync(
            _job, os.getpid(), func, args, cancellable=True, limiter=processes.get()
        )
    except anyio.BrokenWorkerProcess as error:
        raise BrokenProcess(f"the process that ran {name} has died ({error.__cause__ or error})") from error
    except Exception as error:
        if not hasattr(error, "__notes__"):  # as those of the function have
            error.add_note(f"{name} was to run in a process: {SENDABLE}")
        raise


def is_offloaded() -> bool:
    """Tell whether a process for offloaded work is importing the user's file: it must not run its worker."""
    return "__main__" not in sys.modules  # anyio takes it away meanwhile


# In the process ------------------------------------------------------------------------------------


def _job(parent: int, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    _belong_to(parent)
    try:
        return func(*args)
    except BaseException as error:
        raise _sendable(error) from None


def _belong_to(parent: int) -> None:
    """Have this process die when its parent does, and of no signal that is meant for the parent: that one drains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    elif not any(thread.name == "pythia orphan" for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent,), name="pythia orphan", daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _sendable(error: BaseException) -> Exception:
    """Return the error with its traceback as a note, or one that says the same if it would not arrive."""
    note = "in another process:\n" + "".join(traceback.format_exception(error)).rstrip()
    with contextlib.suppress(
        Exception
    ):  # its class cannot be made of its arguments, neither here nor on arrival
        if isinstance(error, Exception) and copy.copy(error) is not None:
            error.add_note(note)
            return error
    said = RuntimeError(f"{type(error).__name__}: {error}")
    said.add_note(note)
    return said
