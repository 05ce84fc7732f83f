"""The README: its code runs, its commands do what it says, its links lead somewhere.

A block that is run has a name behind its language: a file's, or for the shell the name of the step.
"""

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.servers.redis import RedisServer
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
URL = "redis://localhost:6379/0"

NAMED = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {name: code for _, name, code in NAMED.findall(README)}
SHELL = {name for language, name, _ in NAMED.findall(README) if language == "sh"}


def environ(folder: Path, url: str = "") -> dict[str, str]:
    """Return an environment in which commands are found, and what is installed in a folder is seen."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "PYTHONUNBUFFERED": "",  # set, it makes a print several writes, and lines of several processes mix
        **({"REDIS_URL": url} if url else {}),
    }


def shell(step: str, folder: Path, url: str = "") -> str:
    """Run a block of the README in a folder; return what it printed."""
    code = BLOCKS[step].replace(URL, url or URL)
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        check=False,
        cwd=folder,
        env=environ(folder, url),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def start(step: str, folder: Path, url: str) -> "subprocess.Popen[bytes]":
    """Start a block of one command that runs until it is told to stop; it prints into the file `output`."""
    with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
        return subprocess.Popen(
            BLOCKS[step].split(), cwd=folder, env=environ(folder, url), stdout=output, stderr=errors
        )


def write(name: str, folder: Path) -> Path:
    """Save a block as the README says."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BLOCKS[name])
    return path


def handled(folder: Path) -> "Counter[str]":
    """Return the orders that were printed, and how often."""
    return Counter(line for line in (folder / "output").read_text().splitlines() if line.startswith("order "))


@pytest.mark.parametrize("step", ["run", "alone"])
def test_the_quick_start(step: str, redis_server: RedisServer, tmp_path: Path) -> None:
    """A thousand messages are sent and handled once each, by four processes or one, and Ctrl-C ends them cleanly."""
    client = redis.Redis(port=redis_server.port)
    write("worker.py", tmp_path)
    assert "1,000 sent" in shell("send", tmp_path, redis_server.url)
    process = start(step, tmp_path, redis_server.url)
    try:
        wait_until(lambda: len(handled(tmp_path)) == 1000, "all orders are handled", seconds=60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, (tmp_path / "errors").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    assert set(handled(tmp_path).values()) == {1}
    assert client.xpending("orders", "order-processors")["pending"] == 0


def test_the_check_of_the_quick_start(tmp_path: Path) -> None:
    """The worker of the README is good to run."""
    write("worker.py", tmp_path)
    assert "good to run" in shell("check", tmp_path)


def test_dead_letters(tmp_path: Path, redis_server: RedisServer) -> None:
    """They are shown with their reason, and then they are where they came from."""
    write("worker.py", tmp_path)
    with redis.Redis.from_url(redis_server.url) as client:
        client.xadd(
            "orders:dlq",
            {"body": '{"id": 1}', "h:pythia-source": "orders", "h:pythia-error": "builtins.ValueError"},
        )
        said = shell("dead-letters", tmp_path, redis_server.url)
        assert "ValueError" in said and "1 replayed from orders:dlq to orders" in said
        assert (client.xlen("orders"), client.xlen("orders:dlq")) == (1, 0)


def test_the_configuration(tmp_path: Path) -> None:
    """The file of the README is understood, and the settings say that they come from it."""
    write("worker.py", tmp_path)
    write("pythia.toml", tmp_path)
    said = shell("config", tmp_path)
    for name, value in (("batch_size", "100"), ("drain_timeout", "20.0"), ("retry.attempts", "5")):
        row = next(line for line in said.splitlines() if line.split()[:1] == [name])
        assert row.split()[1] == value
        assert "pythia.toml" in row


@pytest.mark.parametrize(
    ("option", "code", "variable", "expected"),
    [
        ("1", "2", "3", "1 command line"),
        ("", "2", "3", "2 code"),
        ("", "", "3", "3 environment"),
        ("", "", "", "100 file"),
    ],
)
def test_the_precedence(
    option: str, code: str, variable: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command line, code, environment, file: whoever comes first in the README's list counts."""
    from pythia.config import WorkerConfig
    from pythia_core.config import resolve

    given = WorkerConfig(batch_size=int(code)) if code else None
    environ = {"PYTHIA_BATCH_SIZE": variable} if variable else {}
    overrides = {"batch_size": option} if option else {}
    resolved = resolve(given, overrides=overrides, environ=environ, file=write("pythia.toml", tmp_path))
    assert f"{resolved.settings.batch_size} {resolved.origin['batch_size']}".startswith(expected)


def test_the_plugin(tmp_path: Path) -> None:
    """The plugin of the README, installed as its pyproject.toml says, passes the check and writes a line."""
    write("pythia_file/plugin.py", tmp_path).with_name("__init__.py").touch()
    install(tomllib.loads(BLOCKS["pyproject.toml"])["project"], tmp_path)
    said = shell("plugin", tmp_path)
    assert "file" in said
    assert (tmp_path / "out.jsonl").read_bytes() == b'{"id": 1}\n'


def install(project: dict[str, object], folder: Path) -> None:
    """Leave behind what an installer would."""
    points = project["entry-points"]
    assert isinstance(points, dict)
    info = folder / f"{str(project['name']).replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {module}" for name, module in points["pythia"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pythia]", *lines, ""]))


def test_the_plugin_has_about_twenty_lines() -> None:
    """What the heading says is counted without blank lines."""
    lines = [line for line in BLOCKS["pythia_file/plugin.py"].splitlines() if line.strip()]
    assert len(lines) <= 20


def test_every_step_is_run() -> None:
    """No named block of the README is left out of the tests."""
    assert set(BLOCKS) == SHELL | {"worker.py", "pythia.toml", "pythia_file/plugin.py", "pyproject.toml"}
    assert {"send", "run", "alone", "check", "dead-letters", "config", "plugin"} == SHELL


def test_links_lead_somewhere() -> None:
    """A file that was moved takes its link along."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_the_second_command_is_what_the_integration_runs() -> None:
    """`.ci/run` may do the same more carefully, but no other thing."""
    script = (ROOT / ".ci" / "run").read_text()
    (command,) = [line for line in README.splitlines() if line.endswith(".venv/bin/nox")]
    for step in command.split(" && "):
        assert step in script, step
