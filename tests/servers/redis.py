"""A Redis server of one's own, up in 0.1 s.

Which one is for PYTHIA_REDIS_SERVER to say: the path of another version's program, or of Valkey's.
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import attrs

from tests.servers.server import Server, find_program


@attrs.define(eq=False, kw_only=True)
class RedisServer(Server):
    """Keeps everything in memory; `durable=True` syncs every write to disk, so that it survives a kill."""

    program: ClassVar[str] = os.environ.get("PYTHIA_REDIS_SERVER", "redis-server")

    durable: bool = False

    @property
    def url(self) -> str:
        """What REDIS_URL takes."""
        return f"redis://{self.address}/0"

    def command(self) -> Sequence[str | Path]:
        """Return the command line; no configuration file is read, so the machine's own does not matter."""
        where: list[str | Path] = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder]
        if self.durable:
            keep = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        else:
            keep = ["--save", "", "--appendonly", "no"]
        return [find_program(self.program), *where, *keep]

    def is_ready(self) -> bool:
        """Tell whether it answers, its data loaded. Another server on this port would answer with another id."""
        try:
            answer = self.ask("INFO server") if self.ask("PING") == b"+PONG\r\n" else b""
        except OSError:
            return False
        return f"process_id:{self.pid}\r\n".encode() in answer

    def flush(self) -> None:
        """Forget everything."""
        if self.ask("FLUSHALL") != b"+OK\r\n":
            raise RuntimeError(f"Redis at {self.address} did not flush.")

    def ask(self, command: str) -> bytes:
        """Send one inline command and return the answer, cut at 4 KiB: enough here, and no client is needed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(4096)
