"""Pythia's core, as plugins see it: the contracts, the errors, the codecs, and ``hookimpl``.

Everything a plugin may import stands in ``__all__``; all else may change. Users import :mod:`pythia` instead. What takes
long to import is fetched when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pythia_core.backoff import full_jitter
from pythia_core.codecs import (
    BYTES,
    CODECS,
    JSON,
    STRICT_JSON,
    TEXT,
    ByContentType,
    Codec,
    Typed,
    decode,
    encode,
    structure,
)
from pythia_core.contracts import (
    DEAD_LETTER_GROUP,
    NO_HEADERS,
    SUSPECT_AFTER,
    UNDECODED,
    Admission,
    Assignment,
    Backlog,
    Body,
    Capabilities,
    Chunk,
    Handler,
    HeaderInput,
    Headers,
    HeaderValue,
    IdempotencyStore,
    Inspector,
    Mark,
    Message,
    Middleware,
    Monitor,
    Move,
    Opinion,
    Output,
    Owner,
    Partition,
    Phase,
    Position,
    Positions,
    QueueObservation,
    Recommendation,
    Refusals,
    Refused,
    Resource,
    ScalingPolicy,
    Seek,
    Seen,
    Settlement,
    Sink,
    Snapshot,
    Source,
    Standing,
    Start,
    Subscription,
    Surroundings,
    Telemetry,
    TokenBucket,
    WorkerObservation,
    WriteResult,
    outgoing,
)
from pythia_core.engine.stats import DURATION_BOUNDS, Stats
from pythia_core.errors import (
    BatchError,
    BrokenProcess,
    ConfigError,
    DecodeError,
    NotOpenError,
    PluginError,
    PythiaError,
    Reject,
    Retry,
    Skip,
    SubscriptionLost,
    WriteError,
)
from pythia_core.outputs import cannot_delay, held_back, milliseconds, prepare_outputs
from pythia_core.secret import Secret, is_loopback, mask_url
from pythia_core.settings import BrakePolicy, Limits, RetryPolicy, Settings

if TYPE_CHECKING:
    from pythia_core.config import UNSET, WorkerConfig
    from pythia_core.monitoring import parse_address
    from pythia_core.plugins import hookimpl
    from pythia_core.reporting import process_figures
    from pythia_core.supervisor.lookout import Lookout
    from pythia_core.supervisor.queues import Queues
    from pythia_core.supervisor.scaling import Decision, Scaler
    from pythia_core.supervisor.true_rate import TrueRate
    from pythia_core.worker import Worker

__all__ = [
    "BYTES",
    "CODECS",
    "DEAD_LETTER_GROUP",
    "DURATION_BOUNDS",
    "JSON",
    "NO_HEADERS",
    "STRICT_JSON",
    "SUSPECT_AFTER",
    "TEXT",
    "UNDECODED",
    "UNSET",
    "Admission",
    "Assignment",
    "Backlog",
    "BatchError",
    "Body",
    "BrakePolicy",
    "BrokenProcess",
    "ByContentType",
    "Capabilities",
    "Chunk",
    "Codec",
    "ConfigError",
    "Decision",
    "DecodeError",
    "Handler",
    "HeaderInput",
    "HeaderValue",
    "Headers",
    "IdempotencyStore",
    "Inspector",
    "Limits",
    "Lookout",
    "Mark",
    "Message",
    "Middleware",
    "Monitor",
    "Move",
    "NotOpenError",
    "Opinion",
    "Output",
    "Owner",
    "Partition",
    "Phase",
    "PluginError",
    "Position",
    "Positions",
    "PythiaError",
    "QueueObservation",
    "Queues",
    "Recommendation",
    "Refusals",
    "Refused",
    "Reject",
    "Resource",
    "Retry",
    "RetryPolicy",
    "Scaler",
    "ScalingPolicy",
    "Secret",
    "Seek",
    "Seen",
    "Settings",
    "Settlement",
    "Sink",
    "Skip",
    "Snapshot",
    "Source",
    "Standing",
    "Start",
    "Stats",
    "Subscription",
    "SubscriptionLost",
    "Surroundings",
    "Telemetry",
    "TokenBucket",
    "TrueRate",
    "Typed",
    "Worker",
    "WorkerConfig",
    "WorkerObservation",
    "WriteError",
    "WriteResult",
    "cannot_delay",
    "decode",
    "encode",
    "full_jitter",
    "held_back",
    "hookimpl",
    "is_loopback",
    "mask_url",
    "milliseconds",
    "outgoing",
    "parse_address",
    "prepare_outputs",
    "process_figures",
    "structure",
]

_LATE = {
    "UNSET": "pythia_core.config",
    "Decision": "pythia_core.supervisor.scaling",
    "Lookout": "pythia_core.supervisor.lookout",
    "Queues": "pythia_core.supervisor.queues",
    "Scaler": "pythia_core.supervisor.scaling",
    "TrueRate": "pythia_core.supervisor.true_rate",
    "Worker": "pythia_core.worker",
    "WorkerConfig": "pythia_core.config",
    "parse_address": "pythia_core.monitoring",
    "hookimpl": "pythia_core.plugins",  # pluggy takes 20 ms, which only plugins need to wait for
    "process_figures": "pythia_core.reporting",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for late."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value
