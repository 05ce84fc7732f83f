"""What did not fit, in words that name each field by its place and repeat nothing of the body.

It stands apart because it is for errors only, and because every way to structure a body ends in it: cattrs's groups of
errors, attrs's validators, and the :class:`Misfit` of models that bring a validation of their own.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Any, get_args, get_origin

import attrs
from cattrs.errors import AttributeValidationNote, BaseValidationError, IterableValidationNote

__all__ = ["Misfit", "name_of", "told"]

MOST = 5
"""How many faults are told: a dead letter's header and a log line are no place for a thousand."""

LONGEST = 120
"""How long a field's path may be."""


class Misfit(Exception):
    """What a model found wrong: pairs of a path within it, empty for the whole, and what is wrong there."""

    def __init__(self, *found: tuple[str, str]) -> None:
        super().__init__()
        self.found = found


def told(error: Exception) -> str:
    """Return what is to be said after "is not Order": a colon and a sentence for each fault, or nothing."""
    if isinstance(error, TypeError | ValueError | ArithmeticError | LookupError):
        return ""  # what came and what was wanted says it all
    found = list(islice(_faults(error), MOST + 1))
    more = "; and more" if len(found) > MOST else ""
    text = "; ".join(found[:MOST]) + more
    return f": {text}" if text else ""


def _faults(error: Exception) -> Iterator[str]:
    """Yield one sentence for each field that does not fit. No recursion: bodies may be nested as deep as a stack."""
    waiting = [("", error)]
    while waiting:
        path, found = waiting.pop()
        if isinstance(found, BaseValidationError):
            waiting.extend((_deeper(path, inner, found.cl), inner) for inner in reversed(found.exceptions))
        elif isinstance(found, Misfit):
            yield from (_at(_join(path, place), what) for place, what in found.found)
        else:
            yield _fault(path, found)


def _fault(path: str, error: Exception) -> str:
    note = _note(error)
    if isinstance(error, RecursionError):
        return _at(path, "is nested too deeply")
    if refusing := _validated(error):
        return _at(_join(path, refusing), f"is refused by its validator ({type(error).__name__})")
    if isinstance(error, KeyError) and error.__traceback__ and not error.__traceback__.tb_next:
        return _at(path, "is missing")  # raised by cattrs's own code, not by something that it called
    if note is not None:
        return _at(path, f"is not {name_of(note.type)}")
    return _at(path, f"does not fit ({type(error).__name__})")


def _validated(error: Exception) -> str:
    """Return the name of the attrs field whose validator raised this, found where it was raised."""
    if _note(error) is not None:
        return ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, attrs.Attribute):
                return str(value.name)
    return ""


def _deeper(path: str, error: BaseException, owner: Any) -> str:
    note = _note(error)
    if isinstance(note, AttributeValidationNote):
        return _join(path, _alias(owner, note.name))
    if note is None:
        return path
    # A mapping's key is part of the body, which is not repeated.
    return f"{path}[{note.index}]" if isinstance(note.index, int) else f"{path}[...]"


def _alias(owner: Any, name: str) -> str:
    """Return what a field is called in a body."""
    owner = get_origin(owner) or owner
    return str(getattr(attrs.fields_dict(owner)[name], "alias", name)) if attrs.has(owner) else name


def _note(error: BaseException) -> AttributeValidationNote | IterableValidationNote | None:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote | IterableValidationNote):
            return note
    return None


def _join(path: str, name: str) -> str:
    return f"{path}{name}" if not path or name.startswith("[") else f"{path}.{name}".rstrip(".")


def _at(path: str, what: str) -> str:
    if len(path) > LONGEST:
        path = f"{path[: LONGEST // 2]}...{path[-LONGEST // 2 :]}"
    return f"field {path} {what}" if path else f"it {what}"


def name_of(kind: Any) -> str:
    """Return a type as people write it: ``list[Order] | None``, without the modules."""
    members = get_args(kind)
    if isinstance(kind, type) and not members:
        return "None" if kind is type(None) else kind.__name__
    if type(kind).__name__ in ("UnionType", "Union", "_UnionGenericAlias"):
        return " | ".join(map(name_of, members))
    if members and all(isinstance(each, type) or get_args(each) for each in members):
        own = getattr(kind, "__origin__", kind)
        return f"{getattr(own, '__name__', own)}[{', '.join(map(name_of, members))}]"
    return str(kind).replace("typing.", "")
