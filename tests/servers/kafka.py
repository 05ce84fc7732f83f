"""An Apache Kafka of one's own (KRaft, one process a node), up in 4 s, and clusters of several."""

import base64
import json
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import attrs

from tests.servers import kafka_jars
from tests.servers.server import MissingBroker, Server, ServerFailed, find_program, free_port

METADATA = 3
"""Number of Kafka's request for metadata."""

TOOL_SECONDS = 60

LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",  # which says that it has started
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)


def new_cluster_id() -> str:
    """Return a new id, written as Kafka writes them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def jars() -> Path:
    """Return the folder of Kafka's jars; raise MissingBroker, which says how to get them."""
    folder = kafka_jars.folder()
    if not any(folder.glob("kafka_2.13-*.jar")):
        raise MissingBroker(f"Kafka's jars are not in {folder}: get them with `nox -s brokers`.")
    return folder


def java(*options: str, memory: str = "96m") -> list[str | Path]:
    """Return the beginning of a command line; the first compiler alone, which starts in half the time."""
    quick = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Xmx{memory}", "-Xms32m", *options)
    return [find_program("java"), *quick, "-cp", f"{jars()}/*"]


@attrs.define(eq=False, kw_only=True)
class KafkaServer(Server):
    """One node, broker and controller at once. Topics are never made by being asked for.

    `properties` go into its configuration; `users` are names and passwords for SCRAM-SHA-512. `security` is the protocol
    of its listener. With `proxy`, the port of one, it listens on `behind` too and tells who comes there of the proxy.
    """

    program: ClassVar[str] = "java"
    start_seconds: ClassVar[float] = 60

    node: int = 1
    controller_port: int = attrs.field(factory=free_port)
    voters: Mapping[int, int] = attrs.field(factory=dict)
    cluster_id: str = attrs.field(factory=new_cluster_id)
    security: str = "PLAINTEXT"
    properties: Mapping[str, str] = attrs.field(factory=dict)
    users: Mapping[str, str] = attrs.field(factory=dict)
    proxy: int = 0
    behind: int = attrs.field(factory=free_port)

    def start(self) -> None:
        """Start it; the first time its folder is formatted."""
        if not (self.folder / "data").exists():
            self._format()
        super().start()

    def command(self) -> Sequence[str | Path]:
        """Return the command line."""
        # Compressions unpack their libraries there, and a test that ends badly must not leave them behind.
        return [
            *java(
                f"-Djava.io.tmpdir={self.folder}",
                *LOGGING,
                memory="512m",
            ),
            *("kafka.Kafka", self.folder / "server.properties"),
        ]

    def is_ready(self) -> bool:
        """Tell whether it answers with the metadata of its own cluster, itself among the brokers."""
        if self.security != "PLAINTEXT":
            return "Kafka Server started" in self.log_tail()
        try:
            answer = self._ask_metadata()
        except (OSError, struct.error):
            return False
        return self.cluster_id.encode() in answer and struct.pack(">i", self.port) in answer

    def _ask_metadata(self) -> bytes:
        # A header of version 1 without a client's name, and version 4 of the request: no topic, none to be made.
        request = struct.pack(">hhihib", METADATA, 4, 7, -1, 0, 0)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", self._receive(connection, 4))
            return self._receive(connection, size)

    def _receive(self, connection: socket.socket, count: int) -> bytes:
        received = b""
        while len(received) < count:
            more = connection.recv(count - len(received))
            if not more:
                raise OSError("closed in the middle of an answer")
            received += more
        return received

    def _format(self) -> None:
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        users = [
            argument
            for name, password in self.users.items()
            for argument in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
        ]
        done = subprocess.run(
            [
                *java(),
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={self.cluster_id}",
                "-c",
                path,
                *users,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=TOOL_SECONDS,
        )
        if done.returncode:
            raise ServerFailed(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")

    def _properties(self) -> dict[str, str]:
        voters = self.voters or {self.node: self.controller_port}
        replicas = str(min(len(voters), 3))
        internal = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        listens, told, protocols = self._proxied() if self.proxy else ("", "", "")
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{port}" for node, port in voters.items()),
            "listeners": f"CLIENTS://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}{listens}",
            "advertised.listeners": f"CLIENTS://127.0.0.1:{self.port}{told}",
            "listener.security.protocol.map": f"CLIENTS:{self.security},CONTROLLER:PLAINTEXT{protocols}",
            "inter.broker.listener.name": "CLIENTS",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            # A killed node is let in again only when its old session has ended.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "300",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "offsets.topic.num.partitions": "3",  # each is a folder and some files: 50 of them make a start slow
            "transaction.state.log.num.partitions": "3",
            **{f"{topic}.replication.factor": replicas for topic in internal},
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "log.cleaner.dedupe.buffer.size": str(2 << 20),
            "log.index.size.max.bytes": str(1 << 20),
            "num.network.threads": "2",
            "num.io.threads": "2",
            **self.properties,
        }

    def _proxied(self) -> tuple[str, str, str]:
        listens, told = (f",PROXIED://127.0.0.1:{port}" for port in (self.behind, self.proxy))
        return listens, told, f",PROXIED:{self.security}"

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's own tools, such as `org.apache.kafka.tools.TopicCommand`, and return what it printed."""
        done = subprocess.run(
            [*java(), name, "--bootstrap-server", self.address, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=TOOL_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"{name} {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def describe_group(self, group: str) -> list[dict[str, str]]:
        """Return what Kafka's own consumer-groups tool says of a group: a row for each partition, by its column names.

        There is none while nobody has joined or committed, when the tool prints no table.
        """
        text = self.tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--describe", "--group", group
        )
        lines = [
            line.split() for line in text.splitlines() if line.strip() and not line.startswith("Consumer")
        ]
        header, *rows = lines or [[]]
        return [dict(zip(header, row, strict=False)) for row in rows]

    def verifiable_producer(self, topic: str, count: int, *options: str) -> list[dict[str, Any]]:
        """Write so many messages by Kafka's own VerifiableProducer and return its events."""
        text = self.tool(
            "org.apache.kafka.tools.VerifiableProducer",
            *("--topic", topic, "--max-messages", str(count), *options),
        )
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@contextmanager
def cluster(size: int = 3, **properties: str) -> Iterator[list[KafkaServer]]:
    """Start several nodes as one cluster; they end with the block."""
    ports = {node: free_port() for node in range(1, size + 1)}
    shared = new_cluster_id()
    nodes = [
        KafkaServer(node=node, controller_port=port, voters=ports, cluster_id=shared, properties=properties)
        for node, port in ports.items()
    ]
    try:
        with ThreadPoolExecutor(size) as pool:  # a node is ready only when most of them are
            list(pool.map(KafkaServer.start, nodes))
        yield nodes
    finally:
        for node in nodes:
            if node.running:
                node.kill()  # asked to end one after the other, the last ones wait for a majority
            node.close()
