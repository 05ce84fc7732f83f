"""What can be put around the handler: ``WorkerConfig(middleware=[RateLimit(rate=100)])``."""

from pythia_core import Admission, Handler, IdempotencyStore, Middleware, Phase, Seen, TokenBucket
from pythia_core.middleware import (
    Deduplicate,
    HeaderFilter,
    HeaderRoute,
    LogContext,
    MemoryIdempotencyStore,
    RateLimit,
)

__all__ = [
    "Admission",
    "Deduplicate",
    "Handler",
    "HeaderFilter",
    "HeaderRoute",
    "IdempotencyStore",
    "LogContext",
    "MemoryIdempotencyStore",
    "Middleware",
    "Phase",
    "RateLimit",
    "Seen",
    "TokenBucket",
]
