"""``pythia scaling serve`` as a user starts it: a real broker, a real pod, JSON and gRPC."""

import socket
from pathlib import Path

import grpc
import pytest
import redis

from pythia_metrics.keda.contract import METHODS, SERVICE, message
from tests.metrics.serving import serve, write_worker
from tests.servers.redis import RedisServer
from tests.servers.server import free_port
from tests.supervisor.running import run
from tests.waiting import wait_until

SECONDS = 30.0


@pytest.mark.slow  # the pod is seen in the next round, up to 10 s later
def test_a_first_message_is_pushed_and_a_pod_is_seen(tmp_path: Path, redis_server: RedisServer) -> None:
    """Nothing, then one message: active over both ways; a pod that does it is one replica that is ready."""
    file, pods = write_worker(tmp_path, redis_server.port), free_port()
    with serve(tmp_path, file, "--pods", f"127.0.0.1:{pods}", "--state", str(tmp_path / "state")) as serving:
        with grpc.insecure_channel(f"127.0.0.1:{serving.grpc}") as channel:
            request, response = METHODS["StreamIsActive"]
            call = channel.unary_stream(
                f"/{SERVICE}/StreamIsActive",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            stream = call(
                message("ScaledObjectRef", name="so", namespace="shop"), timeout=SECONDS, wait_for_ready=True
            )
            assert next(stream).result is False
            status, said = serving.ask()
            assert (status, said["desired"], said["active"], said["backlog"]) == (200, 0, False, 0)
            redis.Redis(port=redis_server.port).xadd("orders", {"body": "{}"})
            assert next(stream).result is True
        status, said = serving.ask()
        assert (status, said["desired"], said["active"], said["backlog"]) == (200, 1, True, 1)
        with run(tmp_path, "--listen", str(pods), text=file.read_text()):
            wait_until(lambda: serving.ask()[1].get("ready") == 1, "the pod is seen", seconds=60)
            said = serving.ask()[1]
            assert (said["replicas"], said["desired"], said["errors"]) == (1, 1, [])
        assert serving.end() == 0


def test_a_broker_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    """503, and UNAVAILABLE; the scaler itself is well."""
    with serve(tmp_path, write_worker(tmp_path, 1), "--pods", "127.0.0.1:1") as serving:
        wait_until(lambda: "desired" in serving.ask()[1], "it has gone round", seconds=60)
        status, said = serving.ask()
        assert (status, said["desired"], said["active"], said["confidence"]) == (503, None, None, "unknown")
        with grpc.insecure_channel(f"127.0.0.1:{serving.grpc}") as channel:
            request, response = METHODS["IsActive"]
            call = channel.unary_unary(
                f"/{SERVICE}/IsActive",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            with pytest.raises(grpc.RpcError) as raised:
                call(message("ScaledObjectRef"), timeout=SECONDS, wait_for_ready=True)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "hold_unknown" in str(raised.value.details())
        assert serving.end() == 0


@pytest.mark.parametrize(
    ("text", "said"), [("import nothing_of_that_name\n", "nothing_of_that_name"), ("x = 1\n", "Worker")]
)
def test_a_worker_file_that_is_wrong_ends_it(tmp_path: Path, text: str, said: str) -> None:
    """With what is wrong, and not with a traceback of ours: nothing would ever be known."""
    file = tmp_path / "orders.py"
    file.write_text(text)
    with serve(tmp_path, file, "--pods", "127.0.0.1:1") as serving:
        assert serving.popen.wait(60) != 0
        log = serving.log.read_text()
        assert said in log and "exceptiongroup" not in log.lower() and "publishing.py" not in log


@pytest.mark.parametrize("which", ["--listen", "--grpc"])
def test_a_port_in_use_is_said(tmp_path: Path, which: str) -> None:
    """And ends it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with serve(tmp_path, write_worker(tmp_path, 1), "--pods", "127.0.0.1:1", which, port) as serving:
            assert serving.popen.wait(60) != 0
            assert "cannot listen on" in serving.log.read_text()
