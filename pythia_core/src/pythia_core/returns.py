"""Whether a function returns anything, as far as its source shows: what a worker without a sink returns is dropped.

It stands apart because it is the one place where a user's code is read and not run.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["returning_lines"]


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
