"""KEDA's own client, in Go, beside a real ``pythia scaling serve`` on a real Redis; and its CRD beside what is printed.

It needs Go 1.26 and downloads KEDA's module, so that `nox -s keda` runs it and the default tests do not.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import redis
import yaml

from tests.metrics.serving import serve, write_worker
from tests.servers.redis import RedisServer
from tests.servers.server import free_port
from tests.supervisor.running import COMMAND, environment

CLIENT = Path(__file__).parent / "keda_client"
KEDA = "github.com/kedacore/keda/v2"


def go(*arguments: str) -> str:
    """Run Go in the client's folder, and return what it prints."""
    program = shutil.which("go", path="/usr/local/go/bin:/usr/bin:/bin") or shutil.which("go") or "go"
    return subprocess.run(
        [program, *arguments], cwd=CLIENT, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the client."""
    program = tmp_path_factory.mktemp("go") / "client"
    go("build", "-o", str(program), ".")
    return program


def asked(client: Path, port: int) -> list[dict[str, Any]]:
    """Return what the client is answered."""
    command = [str(client), "ask", f"127.0.0.1:{port}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_first_message_is_pushed_to_keda_within_a_second(
    client: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    """Not active at once, active by a push; then the number, whole and as a fraction, by asking."""
    file = write_worker(tmp_path, redis_server.port)
    with serve(tmp_path, file, "--pods", f"127.0.0.1:{free_port()}") as serving:
        command = [str(client), "watch", f"127.0.0.1:{serving.grpc}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline())["active"] is False
            sent = time.time()
            redis.Redis(port=redis_server.port).xadd("orders", {"body": "{}"})
            said = json.loads(watching.stdout.readline())
            assert watching.wait(30) == 0
        assert said["active"] is True
        sys.stderr.write(f"pushed after {said['at'] - sent:.2f} s\n")
        assert said["at"] - sent < 1.0
        assert asked(client, serving.grpc) == [
            {"name": "pythia-orders", "target": 1, "targetFloat": 1},
            {"name": "pythia-orders", "value": 1, "valueFloat": 1},
            {"active": True},
        ]
        assert serving.end() == 0


def test_keda_is_told_that_nothing_is_known(client: Path, tmp_path: Path) -> None:
    """A broker that is not there is an error to it, which holds what there is."""
    with serve(tmp_path, write_worker(tmp_path, 1), "--pods", "127.0.0.1:1") as serving:
        spec, error = asked(client, serving.grpc)
        assert spec["name"] == "pythia-orders" and error["error"] == "Unavailable"


def strict(schema: Any) -> Any:
    """Return a schema that refuses what it does not name, as the API server does with strict validation."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", made.get("x-kubernetes-preserve-unknown-fields", False))
    return made


@pytest.mark.parametrize("exact", [[], ["--exact"]])
@pytest.mark.parametrize("trigger", ["metrics-api", "external-push", "native"])
def test_what_is_printed_is_a_scaled_object(tmp_path: Path, trigger: str, exact: list[str]) -> None:
    """By KEDA's own definition of one."""
    folder = Path(go("list", "-m", "-f", "{{.Dir}}", KEDA).strip())
    definition = yaml.safe_load((folder / "config/crd/bases/keda.sh_scaledobjects.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    command = [
        *COMMAND,
        "scaling",
        "scaledobject",
        str(write_worker(tmp_path, 1)),
        "--trigger",
        trigger,
        *exact,
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout
    made = yaml.safe_load(printed)
    jsonschema.validate(made, schema)
    made["spec"]["minimumReplicas"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, schema)
