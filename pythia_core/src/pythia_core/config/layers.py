"""The places where a setting can be said, each read into one flat mapping from a setting's name to value and origin."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from pythia_core.config.components import COMPONENTS
from pythia_core.config.fields import FIELDS, GROUPS
from pythia_core.config.worker_config import WorkerConfig
from pythia_core.errors import ConfigError
from pythia_core.nearest import did_you_mean, nearest

__all__ = [
    "CONFIG_FILE",
    "Layer",
    "Said",
    "from_code",
    "from_command_line",
    "from_environment",
    "from_file",
    "warnings",
]

CONFIG_FILE = "PYTHIA_CONFIG"
NAMES = frozenset({*FIELDS, *COMPONENTS, "codec"})
VARIABLES: Mapping[str, str] = {f"PYTHIA_{name.upper().replace('.', '_')}": name for name in NAMES}
OTHER_VARIABLES = frozenset({CONFIG_FILE, "PYTHIA_PLUGINS", "PYTHIA_DISABLE_PLUGINS"})


@attrs.frozen
class Said:
    """A value as it was said, and where."""

    value: Any
    origin: str


Layer = Mapping[str, Said]


def from_command_line(overrides: Mapping[str, Any]) -> Layer:
    """Read options; one that is None was not given."""
    said = {}
    for name, value in _flat(overrides).items():
        if name not in NAMES:
            raise ConfigError(f"there is no setting {name!r} (command line); {did_you_mean(name, NAMES)}")
        if value is not None:
            said[name] = Said(value, "command line")
    return said


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with its groups taken apart: ``{"retry": {"attempts": 3}}`` is ``{"retry.attempts": 3}``."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if name in GROUPS and isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": item for inner, item in value.items()})
        else:
            flat[name] = value
    return flat


def from_code(config: WorkerConfig | None) -> Layer:
    """Read what a worker's author gave."""
    if config is None:
        return {}
    rest = {name: value for name, value in config.given().items() if name not in GROUPS}
    return {name: Said(value, "code") for name, value in {**rest, **config.plain()}.items()}


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Read the variables; an empty one counts as not set, as templates of deployments write it."""
    return {
        name: Said(environ[variable], f"environment {variable}")
        for variable, name in VARIABLES.items()
        if environ.get(variable)
    }


def warnings(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each variable that looks like a misspelt one; others' PYTHIA_ variables are theirs."""
    known = [*VARIABLES, *OTHER_VARIABLES]
    for variable in sorted(environ):
        if variable.startswith("PYTHIA_") and variable not in known:
            guess = nearest(variable, known, cutoff=0.85)
            if guess:
                yield f"the environment's {variable} is no setting and is ignored; did you mean {guess}?"


def from_file(path: Path, worker: str) -> tuple[Layer, Layer]:
    """Read a TOML file; return what it says for this worker, ``[worker.NAME]``, and for all, ``[worker]``.

    Raises:
        ConfigError: if it cannot be read, or says anything that is not known.
    """
    document = _parse(path)
    for name in document:
        if name != "worker":
            raise ConfigError(
                f"{path} has no use for {name!r}; {did_you_mean(name, ['worker'])}, worker.NAME"
            )
    table = document.get("worker", {})
    if not isinstance(table, dict):
        raise ConfigError(f"worker in {path} is a {type(table).__name__}; it must be a table: [worker]")
    named = {key: value for key, value in table.items() if isinstance(value, dict) and key not in _SECTIONS}
    general = {key: value for key, value in table.items() if key not in named}
    layers = {key: _section(value, path, f"[worker.{key}]") for key, value in named.items()}
    own: dict[str, Said] = {}
    for key, layer in layers.items():
        if _same(key, worker):
            own.update(layer)
    return own, _section(general, path, "[worker]")


_SECTIONS = frozenset({*GROUPS, *COMPONENTS})


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        text = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8"
        raise ConfigError(f"the configuration file {path} is not TOML: {text}") from None


def _section(table: Mapping[str, Any], path: Path, header: str) -> Layer:
    said = {}
    for name, value in _flat(table).items():
        group = name.partition(".")[0]
        section = f"{header[:-1]}.{group}]" if "." in name or isinstance(value, dict) else header
        origin = f"file {path} {section}"
        if name == "body_type":
            raise ConfigError(f"body_type is a class, so it is given in code, not in a file ({origin})")
        if name not in NAMES:
            raise ConfigError(f"there is no setting {name!r} ({origin}); {did_you_mean(name, NAMES)}")
        said[name] = Said(value, origin)
    return said


def _same(key: str, worker: str) -> bool:
    """Tell whether a section is this worker's: ``OrderProcessor``, ``order-processor`` and ``order_processor`` are one."""
    return _bare(key) == _bare(worker)


def _bare(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
