"""What a decoded body may become: JSON's values taken at their word, where cattrs by itself is too kind.

It stands apart because each hook here exists for something cattrs accepts and a message must not mean: the text "3" as 3,
true as 1, a text as a list of its letters, an empty list as a class whose fields have defaults.
"""

from __future__ import annotations

import base64
import dataclasses
from collections import abc
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import cache
from types import GenericAlias, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

import attrs
import cattrs
from cattrs.disambiguators import create_default_dis_func
from cattrs.errors import IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, make_mapping_structure_fn

from pythia_core.structuring.faults import Misfit, name_of
from pythia_core.structuring.models import model_hook

__all__ = ["body_converter", "decimal"]

Hook = Callable[[Any, Any], Any]

LISTS: Mapping[Any, Callable[[list[Any]], Any]] = {
    list: list,
    abc.Sequence: list,
    abc.MutableSequence: list,
    tuple: tuple,
    set: set,
    abc.Set: frozenset,
    abc.MutableSet: set,
    frozenset: frozenset,
}
"""What a JSON array can be, and what makes it."""

OBJECTS = (dict, abc.Mapping, abc.MutableMapping)

_KEY = type("int", (int,), {})
"""Stands for an int that is an object's key: JSON has only text there."""


@cache
def body_converter() -> cattrs.Converter:
    """Return the converter of bodies."""
    converter = cattrs.Converter()
    for kind, hook in _VALUES.items():
        converter.register_structure_hook(kind, hook)
    for fits, factory in (  # the last that fits is taken
        (_is_anything, lambda _: lambda value, _: value),
        (lambda kind: _plain(kind) in LISTS or _is_named_tuple(kind), _array),
        (lambda kind: _plain(kind) in OBJECTS, _mapping),
        (_has_fields, _fields),
        (_is_typed_dict, _typed_dict),
        (lambda kind: isinstance(kind, type) and issubclass(kind, Enum), _enumeration),
        (_is_literal, _literal),
        (_is_union, _union),
        (lambda kind: model_hook(kind) is not None, _validated),
    ):
        converter.register_structure_hook_factory(fits, factory)
    return converter


def _is_anything(kind: Any) -> bool:
    return kind is object


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


# Single values ----------------------------------------------------------------------------------------


def _exactly(value: Any, kind: type) -> Any:
    """Take a JSON value at its word; ``bool`` is an ``int`` to Python and not to JSON."""
    if type(value) is kind:
        return value
    if issubclass(kind, Enum):  # an IntEnum is an int to cattrs
        return _enumeration(kind)(value, kind)
    raise TypeError


def _number(value: Any, _: Any) -> float:
    if type(value) in (int, float):
        return float(value)
    raise TypeError


def decimal(value: Any, _: Any) -> Decimal:
    """Return a number as it is written: 1.1 as 1.1, and not as the float next to it; NaN is no number."""
    if type(value) not in (int, float, str):
        raise TypeError
    found = Decimal(str(value))
    if not found.is_finite():
        raise ValueError
    return found


def _text(make: Callable[[str], Any]) -> Hook:
    def take(value: Any, _: Any) -> Any:
        if type(value) is str:
            return make(value)
        raise TypeError

    return take


_VALUES: Mapping[Any, Hook] = {
    bool: _exactly,
    int: _exactly,
    str: _exactly,
    type(None): _exactly,
    float: _number,
    Decimal: decimal,
    _KEY: lambda value, _: int(value),
    bytes: lambda value, _: value if type(value) is bytes else base64.b64decode(value, validate=True),
    date: _text(date.fromisoformat),
    datetime: _text(datetime.fromisoformat),
    time: _text(time.fromisoformat),
    UUID: _text(UUID),
}
"""What is no array and no object; bytes are text in base64, as msgspec and pydantic write them, or bytes of a codec."""


def _validated(kind: Any) -> Hook:
    hook = model_hook(kind)
    assert hook is not None  # or it would not have been chosen
    return hook


@cache
def _enumeration(kind: type[Enum]) -> Hook:
    return _one_of({(type(member.value), member.value): member for member in kind})


def _literal(kind: Any) -> Hook:
    members: dict[tuple[type, Any], Any] = {}
    for member in get_args(kind):
        plain = member.value if isinstance(member, Enum) else member
        members[type(plain), plain] = member
    return _one_of(members)


def _one_of(members: Mapping[tuple[type, Any], Any]) -> Hook:
    """Return what takes a value for a member by both its type and itself, since True == 1 == 1.0."""

    def take(value: Any, _: Any) -> Any:
        try:
            return members[type(value), value]
        except KeyError:
            raise ValueError from None

    return take


# Arrays -----------------------------------------------------------------------------------------------


def _array(kind: Any, converter: cattrs.Converter) -> Hook:
    make, items, length = _items(kind)
    hooks = [(item, converter.get_structure_hook(item)) for item in items]

    def take(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise TypeError
        if length is not None and len(value) != length:
            raise ValueError
        found, errors = [], []
        for index, each in enumerate(value):
            item, hook = hooks[index if length else 0]
            try:
                found.append(hook(each, item))
            except Exception as error:
                error.__notes__ = [
                    *getattr(error, "__notes__", ()),
                    IterableValidationNote(f"item {index}", index, item),
                ]
                errors.append(error)
        if errors:
            raise _in_items(f"in {name_of(kind)}", errors, kind)
        return make(found)

    return take


# A type checker sees ExceptionGroup's own signature.
_in_items: Callable[[str, list[Exception], Any], Exception] = IterableValidationError  # pyright: ignore[reportAssignmentType]


def _items(kind: Any) -> tuple[Callable[[list[Any]], Any], list[Any], int | None]:
    """Return what makes the array, the types of its items, and how many there must be, None for any number."""
    if _is_named_tuple(kind):
        fields = list(get_type_hints(kind).values())
        return kind._make, fields, len(fields)
    plain, items = _plain(kind), list(get_args(kind))
    if plain is tuple and items and items[-1] is not ...:
        return tuple, items, len(items)
    return LISTS[plain], items[:1] or [Any], None


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_make")


# Objects ----------------------------------------------------------------------------------------------


def _object(hook: Hook) -> Hook:
    """Let nothing but an object come to a hook: a text and a list know ``in`` as well."""

    def take(value: Any, kind: Any) -> Any:
        if isinstance(value, Mapping):
            return hook(value, kind)
        raise TypeError

    return take


def _fields(kind: Any, converter: cattrs.Converter) -> Hook:
    if unsaid := getattr(kind, "__parameters__", ()):
        kind = kind[(Any,) * len(unsaid)]
    return _object(make_dict_structure_fn(kind, converter, _cattrs_use_alias=True))


def _typed_dict(kind: Any, converter: cattrs.Converter) -> Hook:
    return _object(converter.gen_structure_typeddict(kind))


def _mapping(kind: Any, converter: cattrs.Converter) -> Hook:
    key, value = get_args(kind) or (Any, Any)
    key = _KEY if key is int else key
    typed: Any = GenericAlias(dict, (key, value))
    return _object(make_mapping_structure_fn(typed, converter, key_type=key, val_type=value))


def _plain(kind: Any) -> Any:
    try:
        hash(kind)
    except TypeError:
        return None
    return get_origin(kind) or kind


def _has_fields(kind: Any) -> bool:
    plain = get_origin(kind) or kind
    return isinstance(plain, type) and (attrs.has(plain) or dataclasses.is_dataclass(plain))


def _is_typed_dict(kind: Any) -> bool:
    return is_typeddict(get_origin(kind) or kind)


# Unions -----------------------------------------------------------------------------------------------


def _union(kind: Any, converter: cattrs.Converter) -> Hook:
    """Return what takes the member that the JSON value tells.

    A number or null that is itself a member stays as it is. A class among several is told by its fields or its Literal.
    A text is a date, an identifier or an enumeration first where these are members, all in the order written.
    """
    members = [member for member in get_args(kind) if member is not type(None)]
    if len(members) == 1:
        return _optional(members[0], converter)
    hooks = {member: converter.get_structure_hook(member) for member in members}
    nullable = type(None) in get_args(kind)
    choose = _choice([member for member in members if _has_fields(member)], converter)
    others = [
        member for member in members if not _has_fields(member) and member not in (bool, int, float, str)
    ]
    others += [member for member in (float, str) if member in hooks]

    def take(value: Any, _: Any) -> Any:
        if (value is None and nullable) or (type(value) in (bool, int, float) and type(value) in hooks):
            return value
        wrong: Exception = TypeError()
        if (chosen := choose(value)) is not None:
            try:
                return hooks[chosen](value, chosen)
            except Exception as error:
                wrong = error
        for member in others:
            with suppress(*_UNFIT):
                return hooks[member](value, member)
        raise wrong

    return take


_UNFIT = (TypeError, ValueError, ArithmeticError, LookupError, cattrs.BaseValidationError, Misfit)


def _optional(member: Any, converter: cattrs.Converter) -> Hook:
    hook = converter.get_structure_hook(member)
    return lambda value, _: None if value is None else hook(value, member)


def _choice(classes: list[Any], converter: cattrs.Converter) -> Callable[[Any], Any]:
    """Return what finds the class of an object, or None."""
    if len(classes) < 2:
        return lambda value: classes[0] if classes and isinstance(value, Mapping) else None
    choose = create_default_dis_func(converter, *classes, use_literals=True)

    def chosen(value: Any) -> Any:
        try:
            return choose(value) if isinstance(value, Mapping) else None
        except (LookupError, TypeError, ValueError):
            return None

    return chosen
