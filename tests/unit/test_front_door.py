"""The front door: what it hands on, how fast it opens, and what it says where nothing is behind it."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pythia
import pythia.config
import pythia_core
from pythia_core.doors import closed

SOURCES = [str(Path(package.__file__ or "").parents[1]) for package in (pythia, pythia_core)]


def run_python(script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter that finds the packages under test."""
    command = [sys.executable, "-c", script]
    environment = {"PYTHONPATH": ":".join(dict.fromkeys(SOURCES)), **environ}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("module", ["pythia", "pythia.config", "pythia.brokers.memory", "pythia_core"])
def test_every_name_of_all_is_there(module: str) -> None:
    """__all__ promises nothing that is missing."""
    imported = import_module(module)
    assert len(set(imported.__all__)) == len(imported.__all__)
    for name in imported.__all__:
        assert getattr(imported, name) is not None


def test_the_core_has_no_public_name_besides_all() -> None:
    """What is imported into pythia_core without a place in __all__ would be public by accident."""
    tree = ast.parse(inspect.getsource(pythia_core))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pythia_core")
        for alias in node.names
    }
    assert imported == set(pythia_core.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """The module that imports some names late says so as any module does."""
    with pytest.raises(AttributeError, match="no attribute 'Wroker'"):
        pythia_core.Wroker  # noqa: B018


def test_importing_pythia_imports_nothing_heavy() -> None:
    """No pluggy, cattrs, click, rich or broker's library: what makes the import slow is left until it is used."""
    heavy = ["pluggy", "cattrs", "click", "rich", "redis", "hypothesis", "pytest", "importlib.metadata"]
    done = run_python(f"import sys, pythia; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


def test_a_missing_plugin_is_told_with_how_to_install_it() -> None:
    """The distribution on the public index of that name is not ours, so the line is the checkout's."""
    script = "import sys; sys.modules['pythia_redis'] = None; import pythia.brokers.redis"
    done = run_python(script)
    assert done.returncode == 1
    assert "the plugin pythia-redis is not installed" in done.stderr
    assert "pip install ./pythia_core ./plugins/pythia_redis" in done.stderr


def test_a_plugin_that_lacks_something_itself_is_told_apart() -> None:
    """Installing the plugin again would not help somebody who has it."""
    error = closed("pythia_redis", ModuleNotFoundError("No module named 'redis'", name="redis"))
    assert "pythia-redis is installed, but redis, which it needs, is not" in str(error)
    assert error.name == "redis"
