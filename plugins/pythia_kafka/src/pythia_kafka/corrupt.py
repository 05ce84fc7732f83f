"""Records that cannot be read, and what stands in for one: a dead letter that names its place, if that is wanted.

It stands apart because it is the one way in which something in a partition is passed over. It goes from offset to offset,
though a damaged batch holds many: where that batch ends is written in the batch.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
from aiokafka.errors import CorruptRecordException, KafkaError

from pythia_core import DecodeError
from pythia_kafka.message import KafkaMessage, Partition

READS: Final = 3  # of the same record, since what damaged it may be on the way from the broker


@attrs.frozen
class Nothing:
    """All that is known of a record that cannot be read."""

    offset: int
    value: bytes = b""
    key: None = None
    headers: tuple[()] = ()
    timestamp: None = None


class CorruptMessage(KafkaMessage):
    """A record that cannot be read: whoever looks at its body gets an error, which makes it a dead letter at once.

    Args:
        partition: where it was read.
        offset: where it lies.
        error: what is wrong with it.
    """

    __slots__ = ("_error",)

    def __init__(self, partition: Partition, offset: int, error: Exception) -> None:
        super().__init__(partition, Nothing(offset))
        self._error = error

    @property
    def body(self) -> Any:
        """Raise DecodeError."""
        raise DecodeError(f"{self.id} cannot be read: {self._error}")


def is_corrupt(error: Exception) -> bool:
    """Tell an error about the bytes of a record from what a broker answers, and from what may be mended by installing it."""
    return isinstance(error, CorruptRecordException) or not isinstance(
        error, KafkaError | MemoryError | ImportError
    )
