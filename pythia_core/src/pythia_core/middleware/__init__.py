"""Middleware that most workers want sooner or later. Each is one file and one idea; none is there unless it is asked for."""

from pythia_core.middleware.context import LogContext
from pythia_core.middleware.deduplicate import Deduplicate, MemoryIdempotencyStore
from pythia_core.middleware.headers import HeaderFilter, HeaderRoute
from pythia_core.middleware.rate import RateLimit

__all__ = [
    "Deduplicate",
    "HeaderFilter",
    "HeaderRoute",
    "LogContext",
    "MemoryIdempotencyStore",
    "RateLimit",
]
