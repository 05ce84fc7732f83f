"""The source: what a worker's author writes down, ``RabbitMQConsumer(queue="tasks")``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from pythia_core import Capabilities, ConfigError, Owner, Positions, Secret, Source, Start, Subscription
from pythia_rabbitmq.options import RabbitMQOptions

if TYPE_CHECKING:
    from pythia_rabbitmq.inspector import RabbitMQInspector
    from pythia_rabbitmq.producer import RabbitMQProducer

DEAD_LETTERS: Final = ".dlq"
SUSPECTS: Final = ".suspects"
ASIDE: Final = "suspects"  # the partition of what lies there
LARGEST_PREFETCH: Final = 65_535  # AMQP has 16 bits for it
PREFETCH_FOR_EACH: Final = 10  # messages for each that runs, so that half of them can be settled at once
LEAST_PREFETCH: Final = 100
CONSUMER_TIMEOUT: Final = 1800.0  # seconds; RabbitMQ's default since 3.8.17
SOLO_CRASHES: Final = 10  # that many connections do not end by chance while one message runs alone
NEVER: Final = 1_000_000
"""Deliveries that are as good as endless. RabbitMQ 4 deletes a message after 20 where a queue does not say."""


def _bindings(given: Iterable[str | tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = [each.partition(":")[::2] if isinstance(each, str) else each for each in given]
    return tuple((exchange, key) for exchange, key in pairs)


@attrs.frozen  # pyright: ignore[reportGeneralTypeIssues]  # what it shares with the sink cannot be frozen
class RabbitMQConsumer(RabbitMQOptions, Source):
    """Consume a queue, shared with whoever else consumes it.

    Each message is acknowledged when its work is done; what was not acknowledged when a connection ends goes back to the
    queue. With a graceful stop what has not started is given back at once.

    Args:
        queue: its name.
        prefetch_count: the most messages out to this worker and not acknowledged; ten for each that runs at once if left
            out, 100 at the least.
        auto_ack: acknowledge messages when they are handed to the worker, at most ``prefetch_count`` of them: a crash
            loses those, and so does a stop those that have not started. At most once, in exchange for no repetition.
        declare: make the queue if it is not there. One that is there is used as it is.
        queue_type: ``quorum`` or ``classic``, for a queue that is made. With ``quorum`` a queue ``<queue>.suspects`` is made too,
            where a message waits to run alone that may have ended its process; classic queues do not count deliveries.
        durable: whether it outlives the server; quorum queues always do.
        delivery_limit: deliveries after which a quorum queue drops a message or dead-letters it by itself. As good as
            never if left out: Pythia counts attempts and writes dead letters, and 20 restarts must not delete anything.
        dead_letter_exchange: where the queue itself sends what it drops, beside Pythia's own dead letters.
        dead_letter_routing_key: with which routing key.
        single_active_consumer: let one consumer have all messages, and another one when it is gone.
        arguments: further ones for a queue that is made, such as ``{"x-max-priority": 5}``.
        bindings: exchanges that bring messages, as ``"exchange:routing key"`` or pairs.
        priority: of this consumer; those with a higher one are served first.
        consumer_timeout: seconds after which the server takes back what is not acknowledged, as it is configured there (its
            default is 30 minutes, and AMQP does not tell); None if never. ``x-consumer-timeout`` among the arguments wins.
            A worker whose ``handler_timeout`` is not below it does not start.
        solo_crashes: deliveries of a message alone, each without an end, after which it is a dead letter as one that ends its
            process. The server counts a connection that ends as well, so it takes more than where deaths alone are counted.
        when_gone: ``recreate`` a queue that was deleted while it was consumed, empty; or ``fail``, which is not ready
            until somebody has made it again. Either says so as an error.
        url: see :class:`~pythia_rabbitmq.options.RabbitMQOptions`, like everything else.

    Example:
        >>> RabbitMQConsumer("tasks", url="amqp://me:hunter2@localhost", prefetch_count=10)
        RabbitMQConsumer(url='amqp://me:****@localhost', ...queue='tasks', prefetch_count=10, ...)
    """

    queue: str
    prefetch_count: int | None = attrs.field(default=None, kw_only=True)
    auto_ack: bool = attrs.field(default=False, kw_only=True)
    declare: bool = attrs.field(default=True, kw_only=True)
    queue_type: Literal["quorum", "classic"] = attrs.field(default="quorum", kw_only=True)
    durable: bool = attrs.field(default=True, kw_only=True)
    delivery_limit: int | None = attrs.field(default=None, kw_only=True)
    dead_letter_exchange: str | None = attrs.field(default=None, kw_only=True)
    dead_letter_routing_key: str | None = attrs.field(default=None, kw_only=True)
    single_active_consumer: bool = attrs.field(default=False, kw_only=True)
    arguments: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, hash=False)
    bindings: tuple[tuple[str, str], ...] = attrs.field(default=(), kw_only=True, converter=_bindings)
    priority: int | None = attrs.field(default=None, kw_only=True)
    consumer_timeout: float | None = attrs.field(default=CONSUMER_TIMEOUT, kw_only=True)
    solo_crashes: int = attrs.field(default=SOLO_CRASHES, kw_only=True)
    when_gone: Literal["recreate", "fail"] = attrs.field(default="recreate", kw_only=True)
    met: set[str] = attrs.field(factory=set[str], init=False, eq=False, repr=False)
    """Queues that were there once, in this process."""
    survived: Counter[str] = attrs.field(factory=Counter[str], init=False, eq=False, repr=False)
    """Suspects that ran alone here when their connection ended, and how often: the server counts it, and nobody died."""

    def __attrs_post_init__(self) -> None:
        if not self.queue or len(self.queue.encode()) > 255:
            raise ConfigError("queue is the name of a queue, such as 'tasks', of 1 to 255 bytes")
        if self.prefetch_count is not None and not 1 <= self.prefetch_count <= LARGEST_PREFETCH:
            raise ConfigError(
                f"prefetch_count is {self.prefetch_count}; it must be 1 to {LARGEST_PREFETCH:,}, or left out: "
                "without a bound all of the queue would come into memory"
            )
        choices = {"queue_type": ("quorum", "classic"), "when_gone": ("recreate", "fail")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}"
                )
        if self.solo_crashes < 1:
            raise ConfigError(f"solo_crashes is {self.solo_crashes}; it must be at least 1")
        if self.queue_type == "quorum" and not self.durable:
            raise ConfigError("durable=False needs queue_type='classic': quorum queues are always durable")
        if self.queue_type == "classic" and self.delivery_limit is not None:
            raise ConfigError("delivery_limit needs queue_type='quorum': classic queues do not count")
        if self.dead_letter_routing_key is not None and self.dead_letter_exchange is None:
            raise ConfigError("dead_letter_routing_key needs dead_letter_exchange, '' for the default one")

    @property
    def name(self) -> str:
        """The queue."""
        return self.queue

    @property
    def window(self) -> int:
        """The prefetch."""
        return self.prefetch_count or LEAST_PREFETCH

    @property
    def queue_arguments(self) -> dict[str, Any]:
        """What a queue that is made is told."""
        arguments: dict[str, Any] = {"x-queue-type": self.queue_type}
        if self.queue_type == "quorum":
            arguments["x-delivery-limit"] = NEVER if self.delivery_limit is None else self.delivery_limit
        if self.dead_letter_exchange is not None:
            arguments["x-dead-letter-exchange"] = self.dead_letter_exchange
            if self.queue_type == "quorum":  # else the hop may lose it
                arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
        if self.dead_letter_routing_key is not None:
            arguments["x-dead-letter-routing-key"] = self.dead_letter_routing_key
        if self.single_active_consumer:
            arguments["x-single-active-consumer"] = True
        return {**arguments, **self.arguments}

    @property
    def watches(self) -> bool:
        """Whether a message that kills its process can be found: a quorum queue counts, and dead letters are not run."""
        return self.queue_type == "quorum" and not self.auto_ack and not self.queue.endswith(DEAD_LETTERS)

    @property
    def suspects(self) -> str:
        """The queue beside it for messages that may have ended their process."""
        return self.queue + SUSPECTS

    @property
    def suspects_arguments(self) -> dict[str, Any]:
        """What that queue is told when it is made."""
        return {"x-queue-type": "quorum", "x-delivery-limit": NEVER}

    @property
    def consumer_arguments(self) -> dict[str, Any]:
        """What is said when consuming begins."""
        return {} if self.priority is None else {"x-priority": self.priority}

    @property
    def broker_connections(self) -> int:
        """Two: one reads and settles, one counts the backlog; and one that puts suspects aside."""
        return 3 if self.watches else 2

    @property
    def capabilities(self) -> Capabilities:
        """Each message by itself or all up to one, with no more than the prefetch out.

        Deliveries are counted where the queue does; what it counts only makes a suspect, which is then put aside, where
        its own are counted (:mod:`pythia_rabbitmq.quarantine`).
        """
        return Capabilities(
            ack="both",
            order_scope="consumer",
            window=self.window,
            delivery_count=self.watches,
            suspects=ASIDE if self.watches else None,
            solo_crashes=self.solo_crashes,
            settle_seconds=self.settle_seconds,
        )

    @property
    def settle_seconds(self) -> float | None:
        """How long the server waits for an acknowledgement; with ``auto_ack`` it has it at once."""
        if self.auto_ack:
            return None
        told = self.arguments.get("x-consumer-timeout")  # milliseconds
        return told / 1000 if isinstance(told, int) else self.consumer_timeout

    def resolve(self, start: Start) -> RabbitMQConsumer:
        """Fill in server and prefetch; see :class:`pythia_core.Source`."""
        self.address(start.environ)
        url = self.url or start.environ.get("RABBITMQ_URL")
        derived = min(max(PREFETCH_FOR_EACH * start.concurrency, LEAST_PREFETCH), LARGEST_PREFETCH)
        return attrs.evolve(
            self, url=Secret(url) if url else None, prefetch_count=self.prefetch_count or derived
        )

    async def subscribe(self, owner: Owner) -> Subscription:
        """Connect, make the queue if need be, and consume."""
        from pythia_rabbitmq.subscription import RabbitMQSubscription

        subscription = RabbitMQSubscription(self, owner)
        try:
            await subscription.open()
        except BaseException:
            await subscription.aclose()
            raise
        return subscription

    def inspect(self) -> RabbitMQInspector:
        """Return what asks how deep the queue is."""
        from pythia_rabbitmq.inspector import RabbitMQInspector

        return RabbitMQInspector(self.address({}), self.queue, self.management_url)

    def positions(self) -> Positions:
        """Raise ConfigError, always: a queue keeps no positions, and what was settled is gone from it."""
        raise ConfigError(
            f"RabbitMQ's queues keep no positions: what was settled is gone from {self.queue!r}, and what was not is "
            "delivered again by itself. `pythia dead-letters replay` sends back what failed; streams are not supported"
        )

    def counterpart(self) -> RabbitMQProducer:
        """Return a producer for the same queue, which makes it if this source would."""
        from pythia_rabbitmq.producer import RabbitMQProducer

        options = {field.name: getattr(self, field.name) for field in attrs.fields(RabbitMQOptions)}
        return RabbitMQProducer(
            queue=self.queue,
            declare=self.queue_arguments if self.declare else None,
            durable=self.durable,
            **options,
        )

    def dead_letters(self) -> tuple[RabbitMQProducer, RabbitMQConsumer] | None:
        """Return a producer for the queue ``<queue>.dlq``, which is made if it is not there, and a consumer of it.

        A queue that is called so itself has none.
        """
        if self.queue.endswith(DEAD_LETTERS):
            return None
        options = {field.name: getattr(self, field.name) for field in attrs.fields(RabbitMQOptions)}
        reader = RabbitMQConsumer(
            self.queue + DEAD_LETTERS,
            prefetch_count=self.prefetch_count,
            queue_type=self.queue_type,
            durable=self.durable,
            consumer_timeout=self.consumer_timeout,
            when_gone=self.when_gone,
            **options,
        )
        return reader.counterpart(), reader
