"""Middleware is put around a worker's handler once, at start."""

from __future__ import annotations

from collections.abc import Sequence

from pythia_core.contracts.middleware import Handler, Middleware


def compose(handler: Handler, middleware: Sequence[Middleware]) -> Handler:
    """Return ``handler`` inside all of ``middleware``: the lowest phase outermost, then in the order given."""
    outermost_first = sorted(middleware, key=lambda layer: layer.phase)
    for layer in reversed(outermost_first):
        handler = layer.wrap(handler)
    return handler
