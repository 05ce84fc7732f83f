"""Help: quick, complete, and alive when plugins are broken."""

import json
import re
import subprocess
import sys
from importlib import import_module

import click
import pytest

from pythia_core.command import COMMANDS, main
from tests.command.conftest import Pythia
from tests.plugins.handmade import HOOK, Handmade

COMMAND = (
    HOOK
    + "def pythia_register_commands():\n    import click\n    return [click.Command({name!r}, help='Be extra.')]\n"
)


def test_help_names_every_command(pythia: Pythia) -> None:
    """With one line each."""
    done = pythia("--help")
    assert done.exit_code == 0
    for name, text in COMMANDS.items():
        assert f"  {name} " in done.output and text in done.output


def test_help_imports_no_command() -> None:
    """Neither engine nor rich nor cattrs nor any broker is imported to show it."""
    script = (
        "import sys, json; from pythia_core.command import main; main(['--help'], standalone_mode=False);"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHIA_PLUGINS": "", "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    loaded = set(json.loads(done.stderr))
    assert "Commands:" in done.stdout
    heavy = {
        "rich",
        "cattrs",
        "anyio",
        "pythia_core.engine.engine",
        "pythia_core.brokers",
        "pythia_core.supervisor",
    }
    assert loaded & heavy == set()
    assert not {name for name in loaded if name.startswith("pythia_core.command.")}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_module_of_its_name(name: str) -> None:
    """And its own help begins with what the table says of it."""
    command = import_module(f"pythia_core.command.{name.replace('-', '_')}").command
    assert isinstance(command, click.Command)
    assert COMMANDS[name].rstrip(".") in (command.help or "")


def test_version_names_pythia_and_python(pythia: Pythia) -> None:
    """What a bug report needs."""
    assert pythia("--version").output.startswith("pythia ")
    assert f"Python {sys.version.split()[0]}" in pythia("--version").output


def test_an_unknown_command_is_told_with_the_nearest(pythia: Pythia) -> None:
    """A misspelling costs one look."""
    done = pythia("plugin")
    assert done.exit_code == 2
    assert "there is no command 'plugin'; did you mean plugins?" in done.output


def test_a_plugin_adds_a_command(
    pythia: Pythia, installed: Handmade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed apart, and found when the name is misspelt."""
    installed.add("extra", COMMAND.format(name="extra"))
    monkeypatch.delenv("PYTHIA_PLUGINS")
    listed = pythia("--help").output.partition("Commands of plugins:\n")[2]
    assert re.search(r"^  extra +Be extra\.$", listed, re.MULTILINE)
    assert pythia("extra").exit_code == 0
    assert "did you mean extra?" in pythia("extr").output


def test_a_plugin_does_not_replace_a_command(
    pythia: Pythia, installed: Handmade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pythia's own stays what it is, and the check says so."""
    installed.add("sly", COMMAND.format(name="check"))
    monkeypatch.delenv("PYTHIA_PLUGINS")
    assert "Be extra." not in pythia("check", "--help").output + pythia("--help").output
    done = pythia("plugins", "check")
    assert done.exit_code == 1 and "pythia check is Pythia's own command" in done.output


def test_help_survives_broken_plugins(
    pythia: Pythia, installed: Handmade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names them, and an unknown command may be theirs."""
    installed.add("bad", "raise RuntimeError('redis://u:canary-5f2c@h\\x1b[2J')")
    monkeypatch.delenv("PYTHIA_PLUGINS")
    done = pythia("--help")
    assert done.exit_code == 0
    assert "Broken plugins (see pythia plugins list)" in done.output
    assert "RuntimeError: redis://u:****@h" in done.output
    assert "canary-5f2c" not in done.output and "\x1b" not in done.output
    assert "a broken plugin may have it" in pythia("nothing").output


def test_an_error_of_ours_is_one_line(pythia: Pythia) -> None:
    """No traceback, exit code 1, and no password of a URL."""
    done = pythia("send", "redis://u:canary-5f2c@h", input="x\n")
    assert done.exit_code == 1
    assert done.output.startswith("Error: there is no sink 'redis://u:****@h'")


def test_every_command_says_what_its_options_are(pythia: Pythia) -> None:
    """No option without a word of help."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert [option.name for option in options if not option.help] == []
