"""What a worker's source shows of what it writes: lines that return something, and calls that ask for a delay.

What a worker without a sink returns is dropped, and not every sink can hold an output back.

It stands apart because it is the one place where a user's code is read and not run.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["delaying_calls", "returning_lines"]


def returning_lines(function: Callable[..., Any]) -> list[int]:
    """Return the lines of its file where a function returns something other than None.

    None at all where the source is not at hand, and where it speaks of ``Output``, which may well name a sink.
    """
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(function))
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # typed in, compiled, or a lambda within something larger
        return []
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree)}
    if "Output" in names or not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    return [first + node.lineno - 1 for node in _returns(tree.body[0]) if not _is_none(node.value)]


def _returns(function: ast.AST) -> Iterator[ast.Return]:
    """Yield the returns of a function, but not those of functions within it."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.Return):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _returns(node)


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def delaying_calls(kind: type[Any]) -> list[tuple[int, str]]:
    """Return the lines of a class where an output is given a delay, and the attribute of the class that is to hold it back.

    ``Output(self.events, ..., delay=5)`` and ``self.events.send(..., delay=5)`` are found, and ``Output(None, ...)``, which
    is for ``sink``; whatever is named otherwise is not.
    """
    try:
        lines, first = inspect.getsourcelines(kind)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _delays(node)]
    return sorted((first + call.lineno - 1, name) for call in calls if (name := _asked(call)))


def _delays(call: ast.Call) -> bool:
    return any(keyword.arg == "delay" and not _is_none(keyword.value) for keyword in call.keywords)


def _asked(call: ast.Call) -> str:
    """Return the attribute of ``self`` that is asked to write, or nothing if that does not show."""
    called = call.func
    if isinstance(called, ast.Attribute) and called.attr == "send":
        return _own(called.value)
    if getattr(called, "id", getattr(called, "attr", "")) != "Output":
        return ""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "sink"]
    target = (named or call.args or [ast.Constant(None)])[0]
    return "sink" if _is_none(target) else _own(target)


def _own(value: ast.expr) -> str:
    is_own = isinstance(value, ast.Attribute) and getattr(value.value, "id", "") == "self"
    return value.attr if is_own and isinstance(value, ast.Attribute) else ""
