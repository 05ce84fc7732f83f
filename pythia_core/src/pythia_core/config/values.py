"""Turn what configuration says into what a type asks for, or say what would have been allowed.

Texts come from the environment and the command line, typed values from TOML and code; all pass here, so that ``"20"``
and ``20`` are one thing everywhere and an error about them reads the same. cattrs is asked only for types unknown here.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

from pythia_core.codecs import CODECS, Codec
from pythia_core.secret import Secret

__all__ = ["Unfit", "convert", "describe"]

TRUE = {"true", "yes", "on", "1"}
FALSE = {"false", "no", "off", "0"}


class Unfit(ValueError):
    """A value does not fit a type; the text says what would: ``a whole number``."""


def convert(value: Any, kind: Any) -> Any:
    """Return ``value`` as an instance of ``kind``.

    Raises:
        Unfit: saying what is allowed. The text never repeats the value.
    """
    origin = get_origin(kind)
    if kind is Any or kind is object:
        return value
    if origin is Annotated:
        return convert(value, get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return _one_of(value, kind)
    if origin is Literal:
        return _literal(value, kind)
    if converter := _CONVERTERS.get(kind):
        return converter(value)
    if origin is not None and isinstance(origin, type):
        return _collection(value, kind, origin)
    return _instance(value, kind)


def _one_of(value: Any, kind: Any) -> Any:
    """Try the members of a union, text last: everything can be text."""
    members = get_args(kind)
    for member in members:
        if isinstance(member, type) and type(value) is member and member is not str:
            return value
    textual = {str, Secret, bytes, Path}
    for member in sorted(members, key=lambda member: (member in textual, member is type(None))):
        if member is type(None) and isinstance(value, str) and textual & set(members):
            continue  # "none" may be the text that is meant
        try:
            return convert(value, member)
        except Unfit:
            continue
    raise Unfit(describe(kind))


def _literal(value: Any, kind: Any) -> Any:
    for choice in get_args(kind):
        if value == choice or (isinstance(value, str) and value.lower() == str(choice).lower()):
            return choice
    raise Unfit(describe(kind))


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in TRUE | FALSE:
        return value.strip().lower() in TRUE
    raise Unfit(describe(bool))


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(value) if isinstance(value, str) else _unfit(int)
    except ValueError:
        raise Unfit(describe(int)) from None


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Unfit(describe(float))
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise Unfit(describe(float)) from None
    return number if math.isfinite(number) else _unfit(float)


def _str(value: Any) -> str:
    return value if isinstance(value, str) else _unfit(str)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else _str(value).encode()


def _none(value: Any) -> None:
    if value is not None and not (isinstance(value, str) and value.strip().lower() == "none"):
        raise Unfit(describe(type(None)))


def _path(value: Any) -> Path:
    return Path(value) if isinstance(value, str | Path) else _unfit(Path)


def _secret(value: Any) -> Secret:
    if isinstance(value, Secret | str):
        return Secret(value)
    match value:
        case {"file": str(path)} if len(value) == 1:
            return Secret.from_file(path)
        case {"env": str(name)} if len(value) == 1:
            return Secret.from_env(name)
    raise Unfit(describe(Secret))


def _codec(value: Any) -> Any:
    if isinstance(value, str) and value in CODECS:
        return CODECS[value]
    return value if hasattr(value, "decode") and not isinstance(value, bytes) else _unfit(Codec)


_CONVERTERS: Mapping[Any, Callable[[Any], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
    type(None): _none,
    Path: _path,
    Secret: _secret,
    Codec: _codec,
}


def _unfit(kind: Any) -> Any:
    raise Unfit(describe(kind))


def _collection(value: Any, kind: Any, origin: type) -> Any:
    if issubclass(origin, Mapping):
        return _mapping(value, kind)
    if not issubclass(origin, Sequence | AbstractSet):
        return value if isinstance(value, origin) else _unfit(kind)
    items = _items(value, kind)
    try:
        made = tuple(convert(item, member) for item, member in zip(items, _members(kind, items), strict=True))
    except ValueError:  # too few, too many, or one that does not fit
        raise Unfit(describe(kind)) from None
    if issubclass(origin, AbstractSet):
        return set(made) if origin is set else frozenset(made)
    return list(made) if origin is list else made


def _members(kind: Any, items: list[Any]) -> Sequence[Any]:
    """Return the type of each item: those of ``tuple[int, str]``, or the one of all others."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple and arguments[-1:] != (...,):
        return arguments
    return [arguments[0]] * len(items)


def _items(value: Any, kind: Any) -> list[Any]:
    """Return the items of a list, or of a text with commas."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return list(value)
    raise Unfit(describe(kind))


def _mapping(value: Any, kind: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise Unfit(describe(kind))
    name_kind, item_kind = get_args(kind)
    return {convert(name, name_kind): convert(item, item_kind) for name, item in value.items()}


def _instance(value: Any, kind: Any) -> Any:
    """Handle what is left: enumerations, instances, and whatever cattrs knows."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(value, kind)
    if isinstance(kind, type) and kind in (list, tuple, set, frozenset):
        return kind(_items(value, kind))
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    from pythia_core import structuring

    try:
        return structuring.structure_setting(value, kind)
    except Exception:
        raise Unfit(describe(kind)) from None


def _member(value: Any, kind: type[Enum]) -> Enum:
    for member in kind:
        if value in (member, member.value) or (
            isinstance(value, str) and value.upper() == member.name.upper()
        ):
            return member
    raise Unfit(describe(kind))


_WORDS: Mapping[Any, str] = {
    Any: "anything",
    object: "anything",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    bytes: "text",
    type(None): "none",
    Path: "a path",
    Secret: 'text, or { file = "PATH" } or { env = "NAME" }',
    Codec: f"one of {', '.join(CODECS)}",
}


def describe(kind: Any) -> str:
    """Say in words what fits a type: ``a whole number or none``, ``one of key, partition, none``.

    Example:
        >>> describe(int | None)
        'a whole number or none'
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_words_of_union(arguments))
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in arguments)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a table"
    if isinstance(origin, type) and issubclass(origin, Sequence | AbstractSet):
        return f"a list of items, each {describe(arguments[0])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(member.value) for member in kind)}"
    if isinstance(kind, type) and attrs.has(kind):
        return f"a table of {', '.join(field.alias for field in attrs.fields(kind) if field.init)}"
    return f"a {getattr(kind, '__name__', kind)}, which is given in code"


def _words_of_union(members: tuple[Any, ...]) -> list[str]:
    """Say each member once; a choice that is called "none" already is not said again."""
    words = list(dict.fromkeys(describe(member) for member in members))
    return [word for word in words if word != "none" or not any(other.endswith(", none") for other in words)]
