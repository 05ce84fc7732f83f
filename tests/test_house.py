"""Keep the house in order: what no checker knows about files, metadata and doors."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOORS = ROOT / "pythia_core" / "src" / "pythia"
LEFT_BEHIND = {"build", "dist", "__pycache__", "node_modules"}

REGISTRY = re.compile(
    r"(files\.)?pythonhosted\.org|pypi\.org/simple|index-url|registry\.npmjs|repo1?\.maven|deb\.debian"
)
LOCK_FILES = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "package-lock.json"}
RUNS_DATA_AS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml"}


def project_files() -> list[Path]:
    """Return what git tracks or would track; without git, what a checkout would hold."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (
        shutil.which("git")
        and not (listing := subprocess.run(git, check=False, capture_output=True)).returncode
    ):
        found = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        found = list(walk(ROOT))
    return sorted(path for path in found if path.is_file())


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, but for environments, caches and builds."""
    for path in folder.iterdir():
        if path.is_file():
            yield path
        elif path.name in {".ci", ".github"} or not (path.name.startswith(".") or path.name in LEFT_BEHIND):
            yield from walk(path)


def relative(path: Path) -> str:
    """Name a file as the reader of a failure does."""
    return path.relative_to(ROOT).as_posix()


FILES = project_files()
MODULES = [path for path in FILES if path.suffix == ".py"]
SHIPPED = [path for path in MODULES if "src" in path.relative_to(ROOT).parts]
MEMBERS = [ROOT / "pythia_core" / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]
PLUGINS = MEMBERS[1:]

each_member = pytest.mark.parametrize("member", MEMBERS, ids=relative)
each_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=relative)


def metadata(path: Path) -> dict[str, Any]:
    """Return the [project] table of a pyproject.toml."""
    table: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return table


def parse(path: Path) -> ast.Module:
    """Read a module without running it."""
    return ast.parse(path.read_text(), filename=str(path))


def imported_roots(tree: ast.AST) -> set[str]:
    """Return the top-level packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def called_names(tree: ast.AST) -> set[str]:
    """Return the plain names that a module calls."""
    return {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_no_file_names_a_package_registry() -> None:
    """A checkout installs from whichever index its machine is set up with."""
    own = Path(__file__)
    guilty = [
        relative(path)
        for path in FILES
        if path != own and REGISTRY.search(path.read_bytes().decode("utf-8", errors="replace"))
    ]
    assert guilty == []


def test_no_lock_file_is_kept() -> None:
    """A lock file records the address of its author's index."""
    assert [relative(path) for path in FILES if path.name in LOCK_FILES] == []


def test_every_module_says_what_it_is_for() -> None:
    """A file's first sentence says why it stands apart."""
    silent = [relative(path) for path in MODULES if not ast.get_docstring(parse(path))]
    assert silent == []


def test_every_test_states_a_fact() -> None:
    """One sentence says what holds, so that a failure reads as what is broken."""
    silent = [
        f"{relative(path)}: {node.name}"
        for path in MODULES
        if path.name.startswith("test_")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if not (ast.get_docstring(node) or "").endswith(".")
    ]
    assert silent == []


def test_nothing_that_ships_runs_data_as_code() -> None:
    """A message can never choose what code runs: no pickle and its kin, no yaml, no eval, no exec."""
    guilty = {
        relative(path): sorted(found)
        for path in SHIPPED
        if (
            found := imported_roots(parse(path)) & RUNS_DATA_AS_CODE
            | called_names(parse(path)) & {"eval", "exec"}
        )
    }
    assert guilty == {}


@each_member
def test_no_member_can_be_uploaded(member: Path) -> None:
    """The public index knows other projects by some of our names, and refuses this classifier."""
    assert "Private :: Do Not Upload" in metadata(member)["classifiers"]


@each_member
def test_members_support_the_same_pythons(member: Path) -> None:
    """The classifiers are the versions that `nox -t matrix` runs."""
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(metadata(member)["classifiers"]))
    assert versions == ["3.11", "3.12", "3.13"]
    assert metadata(member)["requires-python"] == ">=3.11"


@each_member
def test_every_import_package_is_typed(member: Path) -> None:
    """py.typed tells type checkers to read our annotations."""
    packages = tomllib.loads(member.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages
    for package in packages:
        assert (member.parent / package / "py.typed").is_file(), package


def test_the_core_starts_at_one() -> None:
    """0.1 on the public index is somebody else's."""
    assert int(metadata(MEMBERS[0])["version"].partition(".")[0]) >= 1


@each_plugin
def test_every_plugin_pins_our_core(plugin: Path) -> None:
    """A resolver that looks at the public index must not find the other pythia-core acceptable."""
    assert "pythia-core>=1,<2" in metadata(plugin)["dependencies"]


@each_plugin
def test_every_plugin_has_an_entry_point_called_plugin(plugin: Path) -> None:
    """One name for the module with the hooks, whoever wrote it."""
    entry_points = metadata(plugin)["entry-points"]["pythia"]
    assert entry_points
    for name, module in entry_points.items():
        assert module == f"pythia_{name}.plugin"


@each_plugin
def test_every_plugin_is_known_to_the_tools(plugin: Path) -> None:
    """The lists in the root pyproject.toml that no tool can glob name every plugin."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    package, source = plugin.parent.name, f"plugins/{plugin.parent.name}/src"
    contracts = {contract["id"]: contract for contract in tool["importlinter"]["contracts"]}
    assert f"$MYPY_CONFIG_FILE_DIR/{source}" in tool["mypy"]["mypy_path"].split(":")
    assert source in tool["pyright"]["extraPaths"]
    assert package in tool["importlinter"]["root_packages"]
    assert package in contracts["core-alone"]["forbidden_modules"]
    assert package in contracts["pluggy-once"]["source_modules"]
    assert package in contracts["plugins-apart"]["modules"]
    assert metadata(plugin)["name"] in tool["uv"]["sources"]


def test_the_import_rules_hold() -> None:
    """The layers in pyproject.toml are the architecture, or one of the two is wrong."""
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", lint, "--no-cache"]
    result = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_pythia_holds_no_logic() -> None:
    """The front door only hands on: what it defined would be out of a plugin's reach."""
    logic = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While)
    guilty = [
        f"{relative(path)}:{node.lineno}"
        for path in sorted(DOORS.rglob("*.py"))
        for node in ast.walk(parse(path))
        if isinstance(node, logic)
    ]
    assert guilty == []


def test_doors_to_plugins_are_small() -> None:
    """About nine statements' lines: import, hand on, or say what to install."""
    doors = [*DOORS.glob("brokers/*.py"), *DOORS.glob("monitoring.py")]
    sizes = {relative(path): code_lines(path) for path in doors}
    assert {name: size for name, size in sizes.items() if size > 12} == {}


def code_lines(path: Path) -> int:
    """Count the lines that statements cover, without docstring, comments and blank lines."""
    body = parse(path).body
    statements = body[1:] if ast.get_docstring(parse(path)) else body
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in statements)
