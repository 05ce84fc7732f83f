"""A RabbitMQ of one's own, up in about 6 s: own node name, ports, folders, cookie and port mapper.

Nothing is shared with a node that the system may run: Debian's package starts one.
"""

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import attrs

from tests.servers.server import Server, find_program, free_port, spawn
from tests.waiting import wait_until

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian has the scripts themselves; those on the path change to the system's user and folders."""

COOKIE = "pythia"
CTL_SECONDS = 60
ERL_SECONDS = 20


def script(name: str) -> str:
    """Return the path of one of RabbitMQ's scripts; raise MissingBroker, which says how to get it."""
    path = find_program(name)
    return str(SCRIPTS / name) if (SCRIPTS / name).exists() else path


@attrs.define(eq=False, kw_only=True)
class RabbitServer(Server):
    """One node, user `guest` with password `guest`. It keeps what is durable, so it survives a kill.

    `config` goes into its rabbitmq.conf; `management` adds the HTTP API, which makes the start slower.
    """

    program: ClassVar[str] = "rabbitmq-server"
    start_seconds: ClassVar[float] = 60

    config: Mapping[str, str] = attrs.field(factory=dict)
    management: bool = False
    http_port: int = attrs.field(factory=free_port)
    dist_port: int = attrs.field(factory=free_port)
    mapper_port: int = attrs.field(factory=free_port)
    _mapper: subprocess.Popen[bytes] | None = attrs.field(init=False, default=None)

    @property
    def node(self) -> str:
        """The node's name."""
        return f"rabbit-{self.port}@localhost"

    @property
    def url(self) -> str:
        """What RABBITMQ_URL takes."""
        return self.url_for()

    def url_for(self, vhost: str = "/", user: str = "guest", password: str = "guest") -> str:
        """Return the URL of a virtual host."""
        return f"amqp://{user}:{password}@{self.address}/{quote(vhost, safe='')}"

    @property
    def http(self) -> str:
        """The address of the HTTP API."""
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        """Start it, and before it the port mapper that it and rabbitmqctl find each other by."""
        find_program(self.program)
        if self._mapper is None:
            self._configure()
            mapper = [find_program("epmd"), "-address", "127.0.0.1", "-port", str(self.mapper_port)]
            self._mapper = spawn(mapper, folder=self.folder, log=self.folder / "epmd.log")
            wait_until(self._mapper_listens, "the port mapper listened")
        super().start()

    def close(self) -> None:
        """End it and its port mapper, and remove the folder. Nobody wants its data, so it is killed."""
        if self.running:
            self.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
        super().close()

    def command(self) -> Sequence[str | Path]:
        """Return the command line; the scripts become the node itself, so that the signals reach it."""
        return ["/usr/bin/env", *self._environment(), script("rabbitmq-server")]

    def _environment(self) -> list[str]:
        folder = self.folder
        return [
            f"HOME={folder}",
            f"ERL_EPMD_PORT={self.mapper_port}",
            f"RABBITMQ_NODENAME={self.node}",
            "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
            f"RABBITMQ_NODE_PORT={self.port}",
            f"RABBITMQ_DIST_PORT={self.dist_port}",
            f"RABBITMQ_MNESIA_BASE={folder / 'data'}",
            f"RABBITMQ_LOG_BASE={folder / 'log'}",
            "RABBITMQ_LOGS=-",
            f"RABBITMQ_CONFIG_FILE={folder / 'rabbitmq.conf'}",
            f"RABBITMQ_CONF_ENV_FILE={folder / 'none.conf'}",
            f"RABBITMQ_ADVANCED_CONFIG_FILE={folder / 'none.config'}",
            f"RABBITMQ_ENABLED_PLUGINS_FILE={folder / 'enabled_plugins'}",
            f"NOTIFY_SOCKET={folder / 'nobody'}",  # as under systemd: the script becomes the node
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        ]

    def _configure(self) -> None:
        settings = {
            "loopback_users": "none",
            "log.console.level": "warning",
            "disk_free_limit.absolute": "50MB",
            **({"management.tcp.port": str(self.http_port)} if self.management else {}),
            **self.config,
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (self.folder / "rabbitmq.conf").write_text(text)
        plugins = "[rabbitmq_management]." if self.management else "[]."
        (self.folder / "enabled_plugins").write_text(plugins)
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(COOKIE)
        cookie.chmod(0o400)

    def _mapper_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.mapper_port)) == 0

    def is_ready(self) -> bool:
        """Tell whether it greets a client, by its own name."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return f"rabbit-{self.port}@".encode() in connection.recv(4096)
        except OSError:
            return False

    def erl(self, expression: str) -> str:
        """Have the node evaluate an Erlang expression, in hundredths of a second, and return what it is worth.

        Raises:
            OSError: if nobody answers, or it is an error there.
        """
        command = [find_program("erl_call"), "-R", "-c", COOKIE, "-n", self.node, "-e"]
        try:
            done = subprocess.run(
                command,
                input=f"{expression}.\n",
                env=self._environ(),
                capture_output=True,
                text=True,
                check=False,
                timeout=ERL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.node} did not answer: {expression}") from None
        answer = done.stdout.strip()
        if done.returncode or not answer.startswith("{ok, "):
            raise OSError(f"{self.node}: {expression}: {answer}{done.stderr}")
        return answer.removeprefix("{ok, ").removesuffix("}")

    def ready(self, queue: str, vhost: str = "/") -> int | None:
        """Return how many messages wait in a queue, or None if there is no such queue."""
        found = self.erl(
            f'case rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)) of '
            "{ok, Queue} -> {ok, Ready, _} = rabbit_amqqueue:stat(Queue), Ready; _ -> none end"
        )
        return None if found == "none" else int(found)

    def delete_queue(self, queue: str) -> None:
        """Delete a queue as `rabbitmqctl delete_queue` does, which need not have a leader."""
        self.erl(
            f'{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)), '
            'rabbit_amqqueue:delete(Queue, false, false, <<"test">>)'
        )

    def add_vhost(self, name: str) -> str:
        """Make a virtual host for a test that needs queues of certain names, and return its URL."""
        everything = ", ".join(['<<".*">>'] * 3)
        self.erl(
            f'rabbit_vhost:add(<<"{name}">>, <<"test">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, {everything}, <<"test">>)'
        )
        return self.url_for(name)

    def delete_vhost(self, name: str) -> None:
        """Remove it, with its queues."""
        self.erl(f'rabbit_vhost:delete(<<"{name}">>, <<"test">>)')

    def change_password(self, password: str) -> None:
        """Change the password of `guest`."""
        self.erl(f'rabbit_auth_backend_internal:change_password(<<"guest">>, <<"{password}">>, <<"test">>)')

    def close_connections(self, name: str = "") -> int:
        """Close the connections whose client properties have this name, or all; return how many there were."""
        found = self.erl(
            'length([rabbit_networking:close_connection(Pid, "test") || '
            "[{pid, Pid}, {client_properties, Properties}] <- "
            "rabbit_networking:connection_info_all([pid, client_properties]), "
            f'string:find(io_lib:format("~p", [Properties]), "{name}") =/= nomatch])'
        )
        return int(found)

    def keep_queues(self) -> None:
        """Have it write down which quorum queues it has: killed within 3 s of making one it would forget it."""
        self.erl("[dets:sync(Table) || Table <- dets:all()]")

    def _environ(self) -> dict[str, str]:
        return {**os.environ, **dict(item.split("=", 1) for item in self._environment())}

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl, which takes two seconds, and return what it printed; :meth:`erl` is quicker."""
        done = subprocess.run(
            [script("rabbitmqctl"), "--quiet", "-n", self.node, *arguments],
            env=self._environ(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=CTL_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout
