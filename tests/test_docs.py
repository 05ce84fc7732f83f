"""The documentation: its code runs, its references are the code's, its links lead somewhere."""

import inspect
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import click
import pytest

from docs.reference import DOCUMENTS, configuration, described
from pythia_core import Worker, WorkerConfig
from pythia_core.command import main
from pythia_core.config.fields import FIELDS
from pythia_core.plugins import Registry
from pythia_core.runtime import Runtime

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def ids(path: Path) -> str:
    """Name a page."""
    return str(path.relative_to(DOCS))


def fenced(page: Path) -> list[tuple[str, str]]:
    """Return the Python of a page, each block at its line, with the name of the file that it is, or none."""
    text = page.read_text()
    blocks = re.finditer(r"^```python(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(block[1] or "", "\n" * text.count("\n", 0, block.start(2)) + block[2]) for block in blocks]


@pytest.mark.parametrize("page", [page for page in PAGES if fenced(page)], ids=ids)
def test_the_code_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page one after the other: each worker is one that can be run, and each test passes.

    A block that is a file is a module of its own, which later ones can import.
    """
    module = ModuleType("page")
    for file, block in fenced(page):
        if file:
            module = ModuleType(file.removesuffix(".py"))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block, str(page), "exec"), vars(module))  # noqa: S102 - it is ours, and to be run
        run_what_it_has(vars(module))


def run_what_it_has(names: dict[str, Any]) -> None:
    """Make each worker that was not made before, and run each test that was not run before."""
    for name, value in list(names.items()):
        if isinstance(value, type) and issubclass(value, Worker) and value is not Worker:
            Runtime(value(), environ={}, registry=Registry())
        if name.startswith("test_"):
            del names[name]
            if inspect.iscoroutinefunction(value):
                anyio.run(value)
            else:
                value()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_reference_is_what_the_code_says(name: str) -> None:
    """Whoever changes a setting or an option writes it anew: `python -m docs.reference`."""
    assert (DOCS / name).read_text() == DOCUMENTS[name]()


def test_every_setting_is_described() -> None:
    """Each has a row with words in it, and a longer description is not cut off."""
    rows = {line.split(" | ")[0].strip("| `"): line for line in configuration().splitlines()}
    assert [name for name in FIELDS if len(rows[name].split(" | ")[4]) < 10] == []
    assert described(WorkerConfig)["gc_threshold"].endswith("leaves the garbage collector as it is.")


def commands(command: click.Command, path: str = "pythia") -> dict[str, click.Command]:
    """Return a command and all below it, by what is typed."""
    found = {path: command}
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= commands(below, f"{path} {name}")
    return found


@pytest.mark.parametrize(
    "page", [*PAGES, *ROOT.glob("*.md"), *ROOT.glob("plugins/*/*.md")], ids=lambda path: path.name
)
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and headings too."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if heading:
            found = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in found}, (
                target
            )


LINES = [
    (page, line)
    for page in [*PAGES, *ROOT.glob("README.md"), *ROOT.glob("plugins/*/README.md")]
    if page.name != "commands.md"
    for line in re.findall(r"^(?:    )?(?:.*\| )?(pythia [a-z-]+ .*)$", page.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(
    ("page", "line"), LINES, ids=lambda value: value if isinstance(value, str) else value.name
)
def test_commands_that_are_shown_can_be_typed(page: Path, line: str) -> None:
    """Their options exist and their arguments fit; what files they name is another matter."""
    _, name, *arguments = shlex.split(re.split("  #| <<| > ", line)[0].rstrip(" \\"))
    command = commands(main).get(f"pythia {name}")
    assert command is not None, line
    if isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(click.Context(command), name)
        assert command is not None, line
    try:
        command.make_context(name, arguments)
    except click.BadParameter as error:
        assert "does not exist" in str(error), line


def test_every_test_that_a_page_names_is_there() -> None:
    """What is said to be shown is shown: by a file, and by a test of that name in it."""
    for page in PAGES:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text()):
            assert (ROOT / file).is_file(), (page, file)
            assert not name or f"def {name}(" in (ROOT / file).read_text(), (page, file, name)


def test_every_page_is_listed() -> None:
    """A page that nobody finds is of no use."""
    index = (DOCS / "README.md").read_text()
    listed = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index)}
    assert {page for page in PAGES if page.name != "README.md"} <= listed
