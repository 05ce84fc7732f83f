"""Distributions made by hand in a folder: what an installer leaves behind, in a millisecond."""

import textwrap
from pathlib import Path

HOOK = "from pythia_core import hookimpl\n\n@hookimpl\n"


class Handmade:
    """A folder of installed distributions, each with a plugin.

    Args:
        root: put it on `sys.path` or PYTHONPATH.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        name: str,
        code: str,
        *,
        distribution: str = "",
        version: str = "1.0",
        package: str = "",
        target: str = "",
    ) -> Path:
        """Install a plugin of this code; return its plugin.py."""
        distribution = distribution or f"{name}-pythia"
        package = package or distribution.replace("-", "_")
        module = self.root / package / "plugin.py"
        module.parent.mkdir(exist_ok=True)
        (module.parent / "__init__.py").touch()
        module.write_text(textwrap.dedent(code))
        info = self.root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[pythia]\n{name} = {target or f'{package}.plugin'}\n")
        return module
