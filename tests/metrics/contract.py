"""Compiles KEDA's contract from our own .proto: ``python -m tests.metrics.contract`` writes the descriptor that ships."""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

FOLDER = Path(__file__).parents[2] / "plugins/pythia_metrics/src/pythia_metrics/keda"
SHIPPED = FOLDER / "externalscaler.binpb"


def compile_contract(*outputs: str) -> None:
    """Run the compiler on the .proto; the arguments say what it writes."""
    code = protoc.main(["protoc", f"-I{FOLDER}", *outputs, str(FOLDER / "externalscaler.proto")])
    if code:
        raise RuntimeError(f"protoc ended with {code}")


def descriptor() -> bytes:
    """Return the compiled descriptor."""
    with tempfile.NamedTemporaryFile() as file:
        compile_contract(f"--descriptor_set_out={file.name}")
        return Path(file.name).read_bytes()


if __name__ == "__main__":
    SHIPPED.write_bytes(descriptor())
    sys.exit(0)
