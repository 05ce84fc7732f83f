"""The contracts: what plugins implement and what the engine promises them. Read this folder and you know the design."""

from pythia_core.contracts.message import (
    NO_HEADERS,
    UNDECODED,
    Body,
    Headers,
    HeaderValue,
    Message,
    Partition,
    Position,
)
from pythia_core.contracts.middleware import Admission, Handler, Middleware, Phase, Surroundings
from pythia_core.contracts.positions import Mark, Move, Positions, Seek, Standing
from pythia_core.contracts.resource import Resource
from pythia_core.contracts.scaling import (
    Opinion,
    QueueObservation,
    Recommendation,
    ScalingPolicy,
    Snapshot,
    WorkerObservation,
)
from pythia_core.contracts.settlement import Assignment, Chunk, Refusals, Refused, Settlement
from pythia_core.contracts.shared import IdempotencyStore, Seen, TokenBucket
from pythia_core.contracts.sink import HeaderInput, Output, Sink, WriteResult, outgoing
from pythia_core.contracts.source import (
    DEAD_LETTER_GROUP,
    SUSPECT_AFTER,
    Backlog,
    Capabilities,
    Inspector,
    Owner,
    Source,
    Start,
    Subscription,
)
from pythia_core.contracts.telemetry import Monitor, Telemetry

__all__ = [
    "DEAD_LETTER_GROUP",
    "NO_HEADERS",
    "SUSPECT_AFTER",
    "UNDECODED",
    "Admission",
    "Assignment",
    "Backlog",
    "Body",
    "Capabilities",
    "Chunk",
    "Handler",
    "HeaderInput",
    "HeaderValue",
    "Headers",
    "IdempotencyStore",
    "Inspector",
    "Mark",
    "Message",
    "Middleware",
    "Monitor",
    "Move",
    "Opinion",
    "Output",
    "Owner",
    "Partition",
    "Phase",
    "Position",
    "Positions",
    "QueueObservation",
    "Recommendation",
    "Refusals",
    "Refused",
    "Resource",
    "ScalingPolicy",
    "Seek",
    "Seen",
    "Settlement",
    "Sink",
    "Snapshot",
    "Source",
    "Standing",
    "Start",
    "Subscription",
    "Surroundings",
    "Telemetry",
    "TokenBucket",
    "WorkerObservation",
    "WriteResult",
    "outgoing",
]
