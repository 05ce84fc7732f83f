"""The smallest build backend (PEP 517): zips the package and writes its metadata, from pyproject.toml."""

import tomllib
import zipfile
from pathlib import Path

PACKAGE = "toy_pythia"


def build_wheel(
    wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None
) -> str:
    """Write the wheel and return its name."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    release = f"{PACKAGE}-{project['version']}"
    info = f"{release}.dist-info"
    files = {str(path): path.read_text() for path in Path(PACKAGE).glob("*.py")}
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[pythia]\ntoy = {project['entry-points']['pythia']['toy']}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    name = f"{release}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
