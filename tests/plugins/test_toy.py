"""A real distribution, installed by a real installer: listed, used, checked, and blocked when told."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pythia_core
from tests.plugins.conftest import TOY

SOURCE = str(Path(pythia_core.__file__ or "").parents[1])


def install(source: Path, target: Path, scratch: Path) -> None:
    """Install with pip: this environment's, or where there is none (uv makes them so) that of a fresh one."""
    python = sys.executable
    if importlib.util.find_spec("pip") is None:
        run(python, "-m", "venv", str(scratch))
        python = str(scratch / "bin" / "python")
    options = ["--quiet", "--no-deps", "--disable-pip-version-check"]
    run(python, "-m", "pip", "install", *options, "--target", str(target), str(source))


def run(*command: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the toy from a copy of its folder, since installers leave things behind, and return where."""
    folder, target = tmp_path_factory.mktemp("toy") / "toy", tmp_path_factory.mktemp("site")
    shutil.copytree(TOY, folder)
    install(folder, target, tmp_path_factory.mktemp("scratch") / "venv")
    return target


def pythia(site: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh interpreter that sees the installed toy."""
    script = "from pythia_core.command import main; main(prog_name='pythia')"
    environment = {**os.environ, "PYTHONPATH": f"{site}:{SOURCE}", **environ}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )


def listed(site: Path, **environ: str) -> dict[str, str]:
    """Return the toy as `pythia plugins list --json` shows it."""
    done = pythia(site, "plugins", "list", "--json", **environ)
    found: dict[str, str] = next(info for info in json.loads(done.stdout) if info["name"] == "toy")
    return found


def test_an_installed_plugin_is_listed(site: Path) -> None:
    """With distribution, version, hooks and path."""
    toy = listed(site)
    assert (toy["distribution"], toy["version"], toy["status"]) == ("toy-pythia", "0.7", "loaded")
    assert toy["path"] == str(site / "toy_pythia" / "plugin.py")
    assert len(toy["hooks"]) == 6
    done = pythia(site, "plugins", "list")
    assert "toy" in done.stdout and "toy-pythia 0.7" in done.stdout


def test_an_installed_plugin_is_blocked_when_told(site: Path) -> None:
    """Either list keeps it out, and the listing says which."""
    assert listed(site, PYTHIA_DISABLE_PLUGINS="toy")["blocked"] == "PYTHIA_DISABLE_PLUGINS names it"
    assert listed(site, PYTHIA_PLUGINS="other")["blocked"] == "PYTHIA_PLUGINS does not name it"
    done = pythia(site, "toy", PYTHIA_DISABLE_PLUGINS="toy")
    assert done.returncode == 2 and "there is no command 'toy'" in done.stderr


def test_an_installed_plugin_keeps_its_contracts(site: Path) -> None:
    """What it brings passes the check."""
    done = pythia(site, "plugins", "check", PYTHIA_PLUGINS="toy")
    assert done.returncode == 0, done.stdout
    assert "toy source toy" in done.stdout


def test_an_installed_plugin_adds_its_command(site: Path) -> None:
    """It stands in the help and runs."""
    assert "Say hello from a plugin." in pythia(site, "--help").stdout
    assert pythia(site, "toy").stdout == "hello from the toy\n"


def test_an_installed_sink_is_sent_to(site: Path) -> None:
    """`pythia send` knows its kind, its options, and what it did not confirm."""
    script = "from pythia_core.command import main; main(prog_name='pythia')"
    done = subprocess.run(
        [sys.executable, "-c", script, "send", "toy", "box=red"],
        check=False,
        capture_output=True,
        text=True,
        input='{"n": 1}\n{"n": "bad"}\n',
        env={**os.environ, "PYTHONPATH": f"{site}:{SOURCE}"},
        timeout=60,
    )
    assert done.returncode == 1
    assert "1 sent to toy red" in done.stdout and "line 2: " in done.stderr
