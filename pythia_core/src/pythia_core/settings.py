"""The resolved settings an engine runs by: every value concrete, every default with its reason.

They stand apart from :mod:`pythia_core.config`, which finds out what the user said; the engine sees only the result.
"""

from __future__ import annotations

from typing import Literal

import attrs

from pythia_core.errors import ConfigError

__all__ = ["BrakePolicy", "Limits", "RetryPolicy", "Settings"]

Order = Literal["key", "partition", "none"]


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and when a failed message is tried again: full jitter over an exponentially growing delay.

    The formula is that of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): a delay is uniform in
    ``[0, min(cap, base * factor ** (failures - 1))]``, which spreads retries of many workers best.

    Args:
        attempts: how many times a message is run in all; then it is dead-lettered.
        base: seconds, the largest first delay.
        factor: growth of the largest delay with each failure.
        cap: seconds, the largest delay of all.
    """

    attempts: int = 8
    base: float = 0.2
    factor: float = 4.0
    cap: float = 30.0

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1 or self.base < 0 or self.factor < 1 or self.cap < self.base:
            raise ConfigError(f"retry: {self} needs attempts >= 1, base >= 0, factor >= 1 and cap >= base")


@attrs.frozen(kw_only=True)
class BrakePolicy:
    """When failures are taken for an outage, which costs no message an attempt, and how its end is found out.

    Half of a hundred is the threshold of circuit breakers from Hystrix (50 %) to Resilience4j (50 % of 100 calls).

    Args:
        window: over how many first attempts it looks back.
        share: of those; when more have failed the brake engages, so 1 turns it off.
        probes: how many messages in a row have to succeed to release it.
        base: seconds, the longest wait after the first probe that failed.
        factor: growth of the longest wait with each failure.
        cap: seconds, the longest wait of all.
    """

    window: int = 100
    share: float = 0.5
    probes: int = 3
    base: float = 0.5
    factor: float = 2.0
    cap: float = 10.0

    def __attrs_post_init__(self) -> None:
        if self.window < 1 or not 0 < self.share <= 1 or self.probes < 1:
            raise ConfigError(f"brake: {self} needs window >= 1, 0 < share <= 1 and probes >= 1")
        if self.base < 0 or self.factor < 1 or self.cap < self.base:
            raise ConfigError(f"brake: {self} needs base >= 0, factor >= 1 and cap >= base")


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds on what is in flight in one process. Intake stops at a bound and resumes at 70 % of it.

    Args:
        messages: admitted and not finished, over all partitions.
        bytes: their bodies together; 64 MiB.
        message_bytes: one body; a larger one is dead-lettered by reference. 1 MiB, Kafka's own default.
        span: admitted minus watermark of one partition, for cumulative sources; stops that partition alone.
    """

    messages: int = 4096
    bytes: int = 64 << 20
    message_bytes: int = 1 << 20
    span: int = 10_000

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Limits):
            if getattr(self, field.name) < 1:
                raise ConfigError(
                    f"limits.{field.name} is {getattr(self, field.name)}; it must be at least 1"
                )


@attrs.frozen(kw_only=True)
class Settings:
    """What one worker runs by.

    Args:
        batch_size: most messages of one fetch, and of one ``process_batch``.
        batch_timeout: seconds; how long a batch waits for more, and how often work done is settled.
        max_concurrent_tasks: how many handlers run at once in a process.
        max_memory_mb: resident memory of the process in MiB, or None for no bound. At 90 % of it intake stops, and if that
            does not help the process is replaced.
        max_cpu_percent: of the processors' time that this process may use, the machine's or the container's quota; while more
            is used, by whomever, fewer messages are worked on at once, and fewer fetched. None for no bound.
        max_connections: the most connections to brokers that the worker holds; one that needs more does not start. On Kafka it counts
            clients, each of which connects to every broker it needs.
        order: ``key``, ``partition`` or ``none``; None takes ``key`` where the source orders by partition, else ``none``.
        retry: see :class:`RetryPolicy`.
        brake: see :class:`BrakePolicy`.
        limits: see :class:`Limits`.
        handler_timeout: seconds a handler may run, or None for ever.
        drain_timeout: seconds a stop may take from its first step to its last.
        max_hold: seconds a failing message may hold up a committed position before it is dead-lettered; see
            :mod:`pythia_core.engine.hold`.
    """

    batch_size: int = 500
    batch_timeout: float = 1.0
    max_concurrent_tasks: int = 20
    max_memory_mb: int | None = None
    max_cpu_percent: float | None = None
    max_connections: int = 50
    order: Order | None = None
    retry: RetryPolicy = RetryPolicy()
    brake: BrakePolicy = BrakePolicy()
    limits: Limits = Limits()
    handler_timeout: float | None = None
    drain_timeout: float = 25.0
    max_hold: float = 300.0
