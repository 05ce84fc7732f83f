"""Show settings to people: secrets masked by their type, passwords in URLs by their place, defaults left out."""

from __future__ import annotations

from enum import Enum
from typing import Any, get_args

import attrs

from pythia_core.secret import MASK, Secret, mask_url

__all__ = ["differing", "mentions_secret", "show"]


def mentions_secret(kind: Any) -> bool:
    """Tell whether a value of this type may be, or hold, a secret."""
    return kind is Secret or any(mentions_secret(argument) for argument in get_args(kind))


def show(value: Any, kind: Any = Any) -> str:
    """Return a value as it may be printed: secrets masked by their type, passwords in URLs by their place.

    Of an attrs object only what differs from its defaults is shown.
    """
    if mentions_secret(kind) and value is not None:
        return MASK
    if isinstance(value, Enum):
        return str(value.value)
    if attrs.has(type(value)):
        said = (f"{name}={show_quoted(item)}" for name, item in differing(value).items())
        return f"{type(value).__name__}({', '.join(said)})"
    return mask_url(value if isinstance(value, str) else repr(value))


def show_quoted(value: Any) -> str:
    """Return a value as :func:`show` does, texts in quotes."""
    return mask_url(repr(value)) if isinstance(value, str) else show(value)


def differing(value: Any) -> dict[str, Any]:
    """Return those fields of an attrs object that were given and are not their defaults."""
    fields = (field for field in attrs.fields(type(value)) if field.init and field.repr)
    return {
        field.alias: getattr(value, field.name)
        for field in fields
        if field.default is attrs.NOTHING or getattr(value, field.name) != _default(field, value)
    }


def _default(field: attrs.Attribute[Any], value: Any) -> Any:
    """Return a field's default as the object would hold it; one that depends on the object counts as given."""
    made: Any = field.default
    if isinstance(made, attrs.Factory):  # type: ignore[arg-type]  # it is a class, whatever its stub says
        if made.takes_self:
            return attrs.NOTHING
        made = made.factory()
    return field.converter(made) if callable(field.converter) else made
