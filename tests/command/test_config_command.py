"""`pythia config`: every setting, where it comes from, and no secret."""

import json
from pathlib import Path

import pytest

from tests.command.conftest import Pythia

CANARY = "canary-5f2c"

VAULT = f'''
import attrs
from pythia_core import Secret, Worker
from pythia_core.brokers.memory import MemoryConsumer


@attrs.frozen
class Vault(MemoryConsumer):
    password: Secret | None = attrs.field(default=None, kw_only=True)
    url: str = attrs.field(default="", kw_only=True)

    def resolve(self, start):
        return attrs.evolve(super().resolve(start), url=start.environ.get("VAULT_URL", ""))


class Reader(Worker):
    source = Vault("orders", password=Secret("{CANARY}"))

    async def process(self, message):
        pass
'''


def rows(output: str, worker: str = "order-processor") -> dict[str, tuple[str, str]]:
    """Return value and origin by setting from JSON."""
    return {row["name"]: (row["value"], row["origin"]) for row in json.loads(output)[worker]}


def test_each_value_comes_with_its_origin(
    pythia: Pythia, worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code, environment, file and default, and what the source fills in."""
    monkeypatch.setenv("PYTHIA_RETRY_ATTEMPTS", "3")
    Path("p.toml").write_text("[worker]\nbatch_size = 9\nmax_hold = 60\n")
    found = rows(pythia("config", "orders.py", "--config", "p.toml", "--json").output)
    assert found["batch_size"] == ("5", "code")
    assert found["retry.attempts"] == ("3", "environment PYTHIA_RETRY_ATTEMPTS")
    assert found["max_hold"] == ("60.0", "file p.toml [worker]")
    assert found["drain_timeout"] == ("25.0", "default")
    assert found["source"] == ("MemoryConsumer(topic='orders')", "code")
    assert found["source.consumer_group"] == ("order-processor", "filled in at start")
    assert found["sink"] == ("MemoryProducer(topic='done')", "code")


def test_people_get_a_table(pythia: Pythia, worker: Path) -> None:
    """With the worker's name, and a line for each setting."""
    output = pythia("config", "orders.py").output
    assert output.startswith("order-processor")
    assert any(line.split() == ["batch_size", "5", "code"] for line in output.splitlines())


def test_no_secret_is_shown(pythia: Pythia, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the table nor in JSON: by type, and the password within a URL."""
    (folder / "vault.py").write_text(VAULT)
    monkeypatch.setenv("VAULT_URL", f"redis://u:{CANARY}@h")
    for options in ((), ("--json",)):
        output = pythia("config", "vault.py", *options).output
        assert CANARY not in output
        assert "password=****" in output and "redis://u:****@h" in output


def test_no_control_character_reaches_the_terminal(pythia: Pythia, worker: Path) -> None:
    """Not even from the name of a file."""
    Path("p\x1b[2J.toml").write_text("[worker]\nmax_hold = 60\n")
    output = pythia("config", "orders.py", "--config", "p\x1b[2J.toml").output
    assert "file p\\x1b[2J.toml [worker]" in output and "\x1b" not in output


def test_a_wrong_value_is_one_line_and_exit_1(
    pythia: Pythia, worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which, where, and what is allowed."""
    monkeypatch.setenv("PYTHIA_BATCH_TIMEOUT", "soon")
    done = pythia("config", "orders.py")
    assert done.exit_code == 1
    assert (
        "batch_timeout is 'soon' (environment PYTHIA_BATCH_TIMEOUT); it must be a number above 0"
        in done.output
    )
