"""ARCHITECTURE.md: what it names exists, and what exists and matters is named."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
ENGINE = ROOT / "pythia_core" / "src" / "pythia_core" / "engine"
MODULES = sorted(path for path in ENGINE.glob("*.py") if path.name != "__init__.py")

ROW = re.compile(r"^\| `(\w+\.py)` \| ([A-Z, ]*)\| ", re.MULTILINE)
PARTS = {module: letters.strip() for module, letters in ROW.findall(TEXT)}
INVARIANT = re.compile(r"^- ([A-Z])\d+\. ", re.MULTILINE)


def named_paths() -> Iterator[str]:
    """Yield every path that the text names: in the map, and between backticks."""
    (listing,) = re.findall(r"^```map\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for line in listing.splitlines():
        yield line.split()[0]
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    for word in re.findall(r"`([\w./-]+)`", prose):
        if "/" in word or word == "pyproject.toml":
            yield word


def test_every_path_it_names_exists() -> None:
    """A map with a road that is not there is worse than none."""
    paths = list(named_paths())
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_package_of_the_core_is_on_the_map() -> None:
    """A new folder is put on the map by whoever makes it."""
    core = ENGINE.parent
    folders = {path.parent for path in core.rglob("*.py")} - {core, core / "brokers"}
    named = {ROOT / path for path in named_paths()}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if folder not in named] == []


def test_every_module_of_the_engine_is_named() -> None:
    """No part is missing, and none is named that is gone."""
    assert sorted(PARTS) == [path.name for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_invariants_have_the_letters_of_the_code(path: Path) -> None:
    """A reader who looks for L4 finds it where the table says."""
    letters = set(INVARIANT.findall(ast.get_docstring(ast.parse(path.read_text())) or ""))
    assert set(PARTS[path.name].replace(",", "").split()) == letters


def test_no_two_parts_share_a_letter() -> None:
    """A letter names one part, else a test that names an invariant could mean two."""
    letters = [letter for letters in PARTS.values() for letter in letters.split()]
    assert sorted(letters) == sorted(set(letters))


def test_every_import_rule_is_named() -> None:
    """The rules in words are the rules that are enforced."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    prose = " ".join(TEXT.split())
    missing = [
        rule["name"] for rule in tool["importlinter"]["contracts"] if f"- {rule['name']}." not in prose
    ]
    assert missing == []


def test_every_contract_is_named() -> None:
    """Each contract that the core exports as an interface has its line."""
    source = (ENGINE.parent / "contracts" / "source.py").read_text()
    for name in re.findall(r"^class (Source|Subscription|Owner|Capabilities)\b", source, re.MULTILINE):
        assert f"| `{name}` |" in TEXT
    for name in ("Sink", "Resource", "Middleware", "Telemetry", "ScalingPolicy", "Settlement"):
        assert f"| `{name}` |" in TEXT
