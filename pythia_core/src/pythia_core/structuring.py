"""All use of cattrs: strings of a configuration and decoded bodies become typed values, or errors that name the field.

It stands apart because cattrs takes 60 ms to import, so this module is imported when something is to be structured.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.preconf.orjson import make_converter

from pythia_core.config.values import convert
from pythia_core.errors import DecodeError
from pythia_core.secret import Secret

__all__ = ["faults", "structure_body", "structure_setting"]


def structure_body(body: Any, body_type: Any) -> Any:
    """Return the body as an instance of the type; see :func:`pythia_core.codecs.structure`."""
    try:
        return _body_converter().structure(body, body_type)
    except Exception as error:
        told = "; ".join(faults(error))
        raise DecodeError(f"the body, a {type(body).__name__}, is not {_name(body_type)}: {told}") from None


@cache
def _body_converter() -> cattrs.Converter:
    converter = make_converter()
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly)
    converter.register_structure_hook(float, _number)
    return _with_common_types(converter)


def _with_common_types(converter: cattrs.Converter) -> cattrs.Converter:
    """Add what JSON writes as text and cattrs does not know; dates it knows."""
    converter.register_structure_hook(UUID, lambda value, _: UUID(value))
    converter.register_structure_hook(Decimal, lambda value, _: _decimal(value))
    return converter


def _decimal(value: Any) -> Decimal:
    """Return a number as it is written: 1.1 as 1.1, and not as the float next to it."""
    if type(value) in (int, float, str):
        return Decimal(str(value))
    raise TypeError


def _exactly(value: Any, kind: type) -> Any:
    """Take a JSON value at its word; ``bool`` is an ``int`` to Python and not to JSON."""
    if type(value) is kind:
        return value
    raise TypeError


def _number(value: Any, _: type) -> float:
    if type(value) in (int, float):
        return float(value)
    raise TypeError


def faults(error: Exception, path: str = "") -> Iterator[str]:
    """Yield one sentence for each field that does not fit, by name and expected type and without its value."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _nested_faults(inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        yield f"{path or 'it'} has unknown fields: {', '.join(sorted(error.extra_fields))}"
    else:
        yield _at(path, f"does not fit ({type(error).__name__})")


def _nested_faults(error: Exception, path: str) -> Iterator[str]:
    note = _note(error)
    if isinstance(note, AttributeValidationNote):
        path = f"{path}.{note.name}".lstrip(".")
    elif note is not None:
        # A mapping's key is part of the body, which is not repeated.
        path = f"{path}[{note.index}]" if isinstance(note.index, int) else f"{path}[...]"
    if isinstance(error, BaseValidationError):
        yield from faults(error, path)
    elif isinstance(error, KeyError) and isinstance(note, AttributeValidationNote):
        yield _at(path, "is missing")
    elif isinstance(error, ForbiddenExtraKeysError) or note is None:
        yield from faults(error, path)
    else:
        yield _at(path, f"is not {_name(note.type)}")


def _note(error: Exception) -> AttributeValidationNote | IterableValidationNote | None:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote | IterableValidationNote):
            return note
    return None


def _at(path: str, what: str) -> str:
    return f"field {path} {what}" if path else what


def _name(kind: Any) -> str:
    """Return a type as people write it."""
    return (
        kind.__name__
        if isinstance(kind, type) and not hasattr(kind, "__args__")
        else str(kind).replace("typing.", "")
    )


def structure_setting(value: Any, kind: Any) -> Any:
    """Return a setting as an instance of a type that only cattrs knows: dates, UUIDs, classes with fields."""
    return _settings_converter().structure(value, kind)


@cache
def _settings_converter() -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=True)
    for kind in (
        bool,
        int,
        float,
        str,
        bytes,
        Secret,
        Path,
    ):  # cattrs makes bool("no") of "no", which is True
        converter.register_structure_hook(kind, convert)
    return _with_common_types(converter)
