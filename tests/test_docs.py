"""The documentation: what is written from the code is what the code says now, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from docs.reference import DOCUMENTS, configuration, described
from pythia_core.config import WorkerConfig
from pythia_core.config.fields import FIELDS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_reference_is_what_the_code_says(name: str) -> None:
    """Whoever changes a setting or an option writes it anew: `python -m docs.reference`."""
    assert (DOCS / name).read_text() == DOCUMENTS[name]()


def test_every_setting_is_described() -> None:
    """Each has a row with words in it, and a longer description is not cut off."""
    rows = {line.split(" | ")[0].strip("| `"): line for line in configuration().splitlines()}
    assert [name for name in FIELDS if len(rows[name].split(" | ")[4]) < 10] == []
    assert described(WorkerConfig)["gc_threshold"].endswith("leaves the garbage collector as it is.")


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Each file that a page links to is there."""
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []
