"""All use of cattrs: strings of a configuration and decoded bodies become typed values, or errors that name the field.

It stands apart because cattrs takes 60 ms to import, so it is imported when something is to be structured. Bodies go by
:mod:`~pythia_core.structuring.shapes`, models of msgspec and pydantic by :mod:`~pythia_core.structuring.models`; what did
not fit is put into words by :mod:`~pythia_core.structuring.faults`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import cattrs
from cattrs.preconf.orjson import make_converter

from pythia_core.config.values import convert
from pythia_core.errors import DecodeError
from pythia_core.secret import Secret
from pythia_core.structuring.faults import name_of, told
from pythia_core.structuring.shapes import body_converter, decimal

__all__ = ["name_of", "structure_body", "structure_setting", "unfit"]


def structure_body(body: Any, body_type: Any) -> Any:
    """Return the body as an instance of the type; see :func:`pythia_core.codecs.structure`."""
    try:
        return body_converter().structure(body, body_type)
    except Exception as error:
        raise DecodeError(f"the body, {_a(body)}, is not {name_of(body_type)}{told(error)}") from None


def _a(body: Any) -> str:
    name = type(body).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def unfit(body_type: Any) -> str:
    """Say why no body can ever become this type, or return the empty text.

    Known at start, so that a type that is not supported stops a worker, and does not make dead letters of all messages.
    """
    try:
        body_converter().get_structure_hook(body_type)
    except cattrs.StructureHandlerNotFoundError as error:
        return f"nothing makes {name_of(error.type_)} of what a codec returns"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


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
    converter.register_structure_hook(UUID, lambda value, _: UUID(value))
    converter.register_structure_hook(Decimal, decimal)
    return converter
