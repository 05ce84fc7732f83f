"""Kafka for chaos: one node and six partitions, filled and asked by the bare client, which needs an event loop for that."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from anyio.from_thread import BlockingPortal, start_blocking_portal

from pythia_kafka import KafkaConsumer
from tests.chaos.broker import Asker, Broker, DeadLetter, Sender
from tests.servers.kafka import KafkaServer

TOPIC, GROUP, DEAD = "chaos", "workers", "chaos.dlq"
PARTITIONS = 6
SESSION = 6.0  # seconds; short, so that zombies outlive it
REBALANCE = 20.0  # seconds, of which half is for letting work run out
PATIENCE = 4.0  # seconds

Result = TypeVar("Result")


class Unreachable(OSError):
    """The server cannot be asked now."""


class KafkaBroker(Broker):
    """Kafka."""

    ordered: ClassVar[bool] = True
    patience: ClassVar[float] = (
        60.0  # an outage, ten seconds of backoff, a session and a whole rebalance in a row
    )
    rest: ClassVar[float] = (
        400.0  # the group waits for a session at every crash, and killers have to come one by one
    )
    server: KafkaServer

    def __init__(self) -> None:
        self.server = KafkaServer()
        self._stack = ExitStack()

    @property
    def environ(self) -> Mapping[str, str]:
        """The address."""
        return {"KAFKA_BOOTSTRAP_SERVERS": self.server.address}

    @classmethod
    def source(cls) -> KafkaConsumer:
        """A consumer with a short session."""
        return KafkaConsumer(
            TOPIC, consumer_group=GROUP, session_timeout=SESSION, rebalance_timeout=REBALANCE
        )

    def sender(self) -> Sender:
        """By the idempotent producer."""
        return KafkaSender(self._caller())

    def asker(self) -> Asker:
        """By committed offsets, and what lies before them."""
        return KafkaAsker(self._caller())

    def _caller(self) -> "Caller":
        caller = Caller(self.server.address, self._stack.enter_context(start_blocking_portal("asyncio")))
        self._stack.callback(caller.discard)
        return caller

    def __enter__(self) -> Self:
        self.server.start()
        self._caller().call(self._make_topics)
        return self

    async def _make_topics(self, caller: "Caller") -> None:
        admin = await caller.client(AIOKafkaAdminClient)
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1), NewTopic(DEAD, 1, 1)])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        super().__exit__(kind, error, trace)


class Caller:
    """Runs what is asynchronous in an event loop of its own, each time with a deadline.

    After an error all clients are thrown away. One of the producer's could else send again what is long given up.
    """

    def __init__(self, address: str, portal: BlockingPortal) -> None:
        self._address = address
        self._portal = portal
        self._clients: dict[Any, Any] = {}

    def call(self, function: Callable[["Caller"], Awaitable[Result]]) -> Result:
        """Return what it returns; raise Unreachable if it cannot be done now."""

        async def call() -> Result:
            with anyio.fail_after(PATIENCE):
                return await function(self)

        try:
            return self._portal.call(call)
        except (KafkaError, TimeoutError) as error:
            self.discard()
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def client(self, kind: type[Any], **options: Any) -> Any:
        """Return a client, connected."""
        if kind not in self._clients:
            client = self._clients[kind] = kind(bootstrap_servers=self._address, **options)
            await client.start()
        return self._clients[kind]

    def discard(self) -> None:
        """Throw all clients away, with all that they hold."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            self._portal.call(self._close, client)

    async def _close(self, client: Any) -> None:
        steps = [getattr(client, "stop", None) or client.close]
        if isinstance(client, AIOKafkaProducer):
            inside: Any = client
            inside._closed = True  # its own stop would first send all that it holds
            steps = [inside._sender.close, inside.client.close]
        for step in steps:
            with anyio.move_on_after(PATIENCE):
                await asyncio.gather(step(), return_exceptions=True)


class KafkaSender(Sender):
    """See :class:`Sender`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Write records; Kafka drops what the client sends a second time."""

        async def send(caller: Caller) -> None:
            producer = await caller.client(AIOKafkaProducer, acks="all", enable_idempotence=True)
            sent = [await producer.send(TOPIC, body, key.encode()) for key, body in messages]
            await asyncio.gather(*sent)

        self._caller.call(send)


class KafkaAsker(Asker):
    """See :class:`Asker`. What lies before a committed offset is settled."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._position: dict[TopicPartition, int] = {}

    def settled(self) -> list[bytes]:
        """Read on up to the committed offsets."""

        async def read(caller: Caller) -> list[Any]:
            return await self._read(caller, await committed(caller))

        return [record.value for record in self._caller.call(read)]

    def dead(self) -> list[DeadLetter]:
        """Read on in the topic of dead letters."""

        async def read(caller: Caller) -> list[Any]:
            return await self._read(caller, await ends(caller, [TopicPartition(DEAD, 0)]))

        records = self._caller.call(read)
        return [DeadLetter(record.value, int(dict(record.headers)["pythia-attempts"])) for record in records]

    async def _read(self, caller: Caller, upto: Mapping[TopicPartition, int]) -> list[Any]:
        """Return the records between where it has been read to and some offsets; all or none of them."""
        reader = await caller.client(AIOKafkaConsumer, enable_auto_commit=False, auto_offset_reset="none")
        found: list[Any] = []
        missing = {p: self._position.get(p, 0) for p, end in upto.items() if end > self._position.get(p, 0)}
        reader.assign(list(missing))
        for partition, position in missing.items():
            reader.seek(partition, position)
        for partition in missing:
            while await reader.position(partition) < upto[partition]:
                records = await reader.getmany(partition, timeout_ms=100)
                found += [r for r in records.get(partition, ()) if r.offset < upto[partition]]
        self._position.update({partition: upto[partition] for partition in missing})
        return found

    def left(self) -> tuple[int, int]:
        """Count what lies behind the committed offsets; what of it is delivered, Kafka does not know."""

        async def count(caller: Caller) -> int:
            done = await committed(caller)
            end = await ends(caller, [TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
            return sum(end.values()) - sum(done.values())

        return self._caller.call(count), 0


async def committed(caller: Caller) -> dict[TopicPartition, int]:
    """Return the group's offsets."""
    admin = await caller.client(AIOKafkaAdminClient)
    offsets = await admin.list_consumer_group_offsets(GROUP)
    return {partition: offset for partition, (offset, _) in offsets.items()}


async def ends(caller: Caller, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the offsets after the last records."""
    reader = await caller.client(AIOKafkaConsumer, enable_auto_commit=False, auto_offset_reset="none")
    found: dict[TopicPartition, int] = await reader.end_offsets(list(partitions))
    return found
