"""The guide's snippets stand in the files as they are in the guide, all of them, and the table names their tests."""

import ast
from pathlib import Path

import pytest

from tests.guide.snippets import FOLDER, GUIDE, SNIPPETS, Snippet, added, rows, squeezed

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.file)
def test_each_file_holds_its_snippet_and_nothing_else(snippet: Snippet) -> None:
    """Each line of the guide is there, and what is added is only what the guide leaves out."""
    assert added(snippet) == []


def test_every_python_snippet_has_a_file() -> None:
    """Wherever the guide defines or imports something, there is a file for it."""
    known = {line for snippet in SNIPPETS for line in snippet.lines}
    heading, forgotten = "", set()
    text = GUIDE.read_text().splitlines()
    for line in text:
        if line[:1].isupper() and not line.endswith(":"):
            heading = line
        python = line.startswith(("class ", "def ", "async def ", "import ", "from pythia"))
        if python and squeezed(line) not in known:
            forgotten.add(heading)
    assert forgotten == set()


def test_every_snippet_has_a_test() -> None:
    """The test that the table names is there."""
    for snippet in SNIPPETS:
        file, _, name = snippet.test.partition("::")
        tree = ast.parse((Path(__file__).parent / file).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in names, snippet.test


def test_the_documentation_has_the_table() -> None:
    """docs/guide.md has a row for each snippet, as it is here, and no other."""
    text = (ROOT / "docs" / "guide.md").read_text()
    found = [line for line in text.splitlines() if line.startswith("| ") and "](../tests" in line]
    assert found == rows()


def test_no_file_is_left_over() -> None:
    """Each file is a snippet's, but for the notebook that all of them write in."""
    assert {path.name for path in FOLDER.glob("*.py")} == {snippet.file for snippet in SNIPPETS} | {
        "notebook.py"
    }
