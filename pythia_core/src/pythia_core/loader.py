"""Imports the workers of a file or a module: the one place where a user's code is loaded by name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from pythia_core.errors import ConfigError, PythiaError
from pythia_core.handlers import guess
from pythia_core.nearest import did_you_mean
from pythia_core.worker import NoSource, Worker, importing

__all__ = ["explain", "load_or_explain", "load_workers"]

MOST_NAMED = 20  # files of a folder

AnyWorker = type[Worker[Any]]


def load_workers(target: str) -> tuple[AnyWorker, ...]:
    """Return the worker classes of ``FILE``, ``FILE:CLASS``, ``MODULE`` or ``MODULE:CLASS``.

    Without a class these are all that are defined in it, in its order: not those it imports, not those that have no
    ``process`` of their own or inherited, and not a class without a source that others in it inherit from.

    Raises:
        ConfigError: if there is no such file, module or class; the text names what there is.
        Exception: whatever importing raises.
    """
    place, name = _split(target)
    with _importing():
        module = _import_file(Path(place)) if _is_file(place) else _import_module(place)
    return (_named(module, name, place),) if name else _defined(module, place)


def load_or_explain(target: str) -> tuple[AnyWorker, ...]:
    """Return the worker classes of a target, for commands.

    Raises:
        ConfigError: whatever is wrong, with the lines of the user's code that lead to it.
    """
    try:
        return load_workers(target)
    except PythiaError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(explain(error, target)) from None


def explain(error: BaseException, target: str) -> str:
    """Return an error for its author: our own in words, any other with the lines of his code that lead to it."""
    if isinstance(error, PythiaError):
        return str(error)
    told = traceback.TracebackException.from_exception(error)
    while told.stack and _is_ours(told.stack[0].filename):
        del told.stack[0]
    what = "exits while it is imported" if isinstance(error, SystemExit) else "cannot be loaded"
    return f"{target} {what}:\n{''.join(told.format()).rstrip()}"


def _is_ours(filename: str) -> bool:
    return filename.startswith(("<frozen importlib", str(Path(__file__).parent)))


def _split(target: str) -> tuple[str, str]:
    """Return place and class; a colon in a path is not one before a class."""
    place, colon, name = target.rpartition(":")
    return (place, name) if colon and place and name.isidentifier() else (target, "")


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or not place.strip(".") or Path(place).is_file()


@contextmanager
def _importing() -> Iterator[None]:
    """Have ``run()`` and ``serve()`` do nothing: a file's last line is what ``python FILE`` is to do, not this."""
    mark = importing.set(True)
    try:
        yield
    finally:
        importing.reset(mark)


# Files ----------------------------------------------------------------------------------------------


def _import_file(path: Path) -> ModuleType:
    """Import a file as ``python FILE`` would find its neighbours, under its own name, so that pickles work."""
    path = path.resolve()
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it{_known(path)}")
    if not path.is_file():
        raise ConfigError(f"there is no file {path}{_similar(path)}")
    _search_first(path.parent)
    name = path.stem if path.stem.isidentifier() else "pythia_worker_file"
    if name in sys.modules and not _came_from(sys.modules[name], path):
        name = f"pythia_worker_{name}"  # it must not take the place of json or redis
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _came_from(module: ModuleType, path: Path) -> bool:
    return getattr(module, "__file__", None) == str(path)


def _similar(path: Path) -> str:
    neighbours = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
    return f"; {did_you_mean(path.name, neighbours)}" if neighbours else ""


def _known(folder: Path) -> str:
    files = sorted(file.name for file in folder.glob("*.py"))
    return f": {', '.join(files[:MOST_NAMED])}" if files else ""


def _search_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


# Modules --------------------------------------------------------------------------------------------


def _import_module(name: str) -> ModuleType:
    _search_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(_no_module(name, error.name)) from None
        raise  # the module is there; something it imports is not


def _no_module(name: str, missing: str) -> str:
    parent, _, _ = missing.rpartition(".")
    where = sys.modules[parent].__path__ if parent else [str(Path.cwd())]
    known = [f"{parent}.{found.name}".lstrip(".") for found in pkgutil.iter_modules(where)]
    hint = f"; {did_you_mean(missing, known)}" if known else ""
    return f"there is no file or module {name!r} (looked in {', '.join(where)}){hint}"


# Classes --------------------------------------------------------------------------------------------


def _named(module: ModuleType, name: str, place: str) -> AnyWorker:
    found = getattr(module, name, None)
    if _is_worker(found):
        return found
    known = [kind.__name__ for kind in _workers(module)]
    if found is None:
        raise ConfigError(f"{place} has no class {name!r}; {did_you_mean(name, known)}")
    what = (
        f"an instance of {type(found).__name__}: name its class" if isinstance(found, Worker) else repr(found)
    )
    raise ConfigError(f"{name} in {place} is no Worker class but {what}; {did_you_mean(name, known)}")


def _defined(module: ModuleType, place: str) -> tuple[AnyWorker, ...]:
    own = [kind for kind in _workers(module) if kind.__module__ == module.__name__]
    runnable = tuple(kind for kind in own if _can_run(kind) and not _is_base(kind, own))
    if runnable:
        return runnable
    raise ConfigError(_nothing_to_run(module, place, own))


def _workers(module: ModuleType) -> list[AnyWorker]:
    """Return the worker classes among a module's names, each once."""
    return list(dict.fromkeys(value for value in vars(module).values() if _is_worker(value)))


def _is_worker(value: Any) -> TypeGuard[AnyWorker]:
    return inspect.isclass(value) and issubclass(value, Worker) and value is not Worker


def _can_run(kind: AnyWorker) -> bool:
    overrides = kind.process is not Worker.process or kind.process_batch is not Worker.process_batch
    return overrides and not inspect.isabstract(kind)


def _is_base(kind: AnyWorker, own: list[AnyWorker]) -> bool:
    inherited = any(issubclass(other, kind) for other in own if other is not kind)
    return inherited and isinstance(kind.source, NoSource)


def _nothing_to_run(module: ModuleType, place: str, own: list[AnyWorker]) -> str:
    if own:
        names = ", ".join(kind.__name__ for kind in own)
        return f"no worker in {place} has a process(self, message): {names}{guess(own[0])}"
    imported = [kind.__name__ for kind in _workers(module)]
    if imported:
        return f"{place} defines no worker, it only imports {', '.join(imported)}; name one: {place}:{imported[0]}"
    return f"{place} defines no worker; write a class that inherits from pythia.Worker"
