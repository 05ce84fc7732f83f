"""Classes that bring a validation of their own: msgspec's structs and pydantic's models, by their own rules.

It stands apart because neither library is a dependency: a class of theirs exists only where it has been imported, so it is
looked for among what is loaded. Their errors quote the body, so only places and kinds are taken from them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pythia_core.structuring.faults import Misfit

__all__ = ["as_plain", "model_hook"]

Hook = Callable[[Any, Any], Any]


def model_hook(kind: Any) -> Hook | None:
    """Return what makes instances of such a class, or None if it is none."""
    if _is_one(kind, "msgspec", "Struct"):
        return _struct
    return _model if _is_one(kind, "pydantic", "BaseModel") else None


def as_plain(value: Any) -> Mapping[str, Any] | None:
    """Return such an instance's fields for an encoder, or None if it is no such instance."""
    if _is_one(type(value), "msgspec", "Struct"):
        plain: Mapping[str, Any] = sys.modules["msgspec"].to_builtins(value)
        return plain
    if _is_one(type(value), "pydantic", "BaseModel"):
        fields: Mapping[str, Any] = value.model_dump(mode="json")
        return fields
    return None


def _is_one(kind: Any, library: str, name: str) -> bool:
    model = getattr(sys.modules.get(library), name, None)
    plain = get_origin(kind) or kind
    return model is not None and isinstance(plain, type) and issubclass(plain, model)


# msgspec ----------------------------------------------------------------------------------------------


def _struct(value: Any, kind: Any) -> Any:
    msgspec: Any = sys.modules["msgspec"]
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise Misfit(_spec_fault(str(error))) from None


def _spec_fault(text: str) -> tuple[str, str]:
    """Take msgspec's sentence apart: "Expected `int`, got `str` - at `$.lines[0].count`"."""
    what, _, place = text.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{path}.{missing[1]}".lstrip("."), "is missing"
    if wanted := re.match(r"Expected `([^`]+)`, got", what):
        return path, f"is not {wanted[1]}"
    return path, "has an unknown field" if "unknown field" in what else "does not fit"


# pydantic ---------------------------------------------------------------------------------------------


def _model(value: Any, kind: Any) -> Any:
    pydantic: Any = sys.modules["pydantic"]
    try:
        return kind.model_validate(value)
    except pydantic.ValidationError as error:
        names = set(_names(kind, set()))
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise Misfit(*(_model_fault(fault, names) for fault in faults)) from None


def _model_fault(fault: Mapping[str, Any], names: set[str]) -> tuple[str, str]:
    """Return the place and the kind of a fault; what is no field's name may be a key of the body."""
    path = ""
    for part in fault["loc"]:
        known = f".{part}" if part in names else "[...]"
        path += f"[{part}]" if isinstance(part, int) else known
    what = "is missing" if fault["type"] == "missing" else f"does not fit ({fault['type']})"
    return path.lstrip("."), what


def _names(kind: Any, seen: set[Any]) -> Iterator[str]:
    """Yield the names of all fields of a model and of the models within."""
    if _is_one(kind, "pydantic", "BaseModel") and kind not in seen:
        seen.add(kind)
        for name, field in kind.model_fields.items():
            yield from filter(None, (name, field.alias, field.title))
            yield from _names(field.annotation, seen)
    for inner in get_args(kind):
        yield from _names(inner, seen)
