"""The messages and methods of KEDA's external scaler contract, as ``externalscaler.proto`` has them.

They are read from its compiled descriptor and not from generated code, which suits one version of protobuf only; in a pool
of their own, since a program may have them from elsewhere too.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["METHODS", "SERVICE", "message"]


def _load() -> Any:
    data = (files("pythia_metrics.keda") / "externalscaler.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool.FindServiceByName("externalscaler.ExternalScaler")


_SERVICE: Final = _load()

SERVICE: Final[str] = _SERVICE.full_name
"""What the methods stand under."""

METHODS: Final[Mapping[str, tuple[Any, Any]]] = {
    method.name: (
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
    )
    for method in _SERVICE.methods
}
"""What each method takes and returns."""


def message(name: str, /, **fields: Any) -> Any:
    """Return a message of the contract."""
    kind = message_factory.GetMessageClass(_SERVICE.file.message_types_by_name[name])
    return kind(**fields)
