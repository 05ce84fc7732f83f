"""Messages out of the bytes that a broker sent for a partition, made by the batch and not one by one as aiokafka does.

That takes 0.2 us less for each, of 0.9, and 0.2 us less again where the processor computes the checksums; and a record
that cannot be read does not take those before it along. It stands apart because it follows
``PartitionRecords._unpack_records`` of aiokafka step by step, which it is to be compared with when the pin moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import dropwhile, islice, repeat
from typing import Any, Final

from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException

from pythia_kafka.message import KafkaMessage, Partition

LENGTH, MAGIC, CHECKED = 8, 16, 21  # where they begin in a batch; what is checked goes on to its end


def _quick_checksum() -> Callable[[bytes], int] | None:
    """Return a CRC-32C that the processor computes, or None where there is none; aiokafka's takes five times as long."""
    try:
        library: Any = import_module("google_crc32c")
    except ImportError:
        return None
    return library.value if library.implementation == "c" else None


CHECKSUM: Final = _quick_checksum()


class Unpacked:
    """Stands in aiokafka's buffer in the place of its ``PartitionRecords``, of which nothing has been taken.

    Args:
        partition: where the records were read.
        records: what it stands in for, which knows the transactions that were aborted.
        sent: the bytes that the records are read from, if they are at hand.

    Attributes:
        next_fetch_offset: the offset after all that was taken or passed; aiokafka reads it.
        over: whether there is nothing left, or nothing that can be read.
    """

    def __init__(self, partition: Partition, records: Any, sent: bytes | None = None) -> None:
        self._partition = partition
        self._records = records
        records._records_iterator = (
            None  # it would keep itself and the bytes alive until the collector comes by
        )
        self._batches = records._records
        at_hand = CHECKSUM is not None and sent is not None and len(sent) == self._batches.size_in_bytes()
        self._sent = sent if at_hand else None
        self._at = 0  # where in it the next batch begins
        self._batch: Iterator[Any] | None = None  # what is left of the one that was begun
        self._end = 0  # the offset after it, which may lie behind its last record if a topic is compacted
        self.next_fetch_offset: int = records.next_fetch_offset
        self.over = False

    def take(self, count: int) -> list[KafkaMessage]:
        """Return at most so many messages.

        Raises:
            Exception: what the parser has against the first of them. If it is a later one those before it are
                returned; the broker is then asked for it again, and it is the first.
        """
        found: list[KafkaMessage] = []
        try:
            self._take(found, count)
        except Exception:
            self.over = True
            if not found:
                raise
            self.next_fetch_offset = max(self.next_fetch_offset, found[-1].position + 1)
        return found

    def _take(self, found: list[KafkaMessage], count: int) -> None:
        while (rest := count - len(found)) > 0:
            batch = self._batch or self._next_batch()
            if batch is None:
                self.over = True
                return
            self._batch = batch
            found.extend(map(KafkaMessage, repeat(self._partition), islice(batch, rest)))
            if len(found) < count:
                self._batch = None
                self.next_fetch_offset = self._end
            else:
                self.next_fetch_offset = found[-1].position + 1

    def _next_batch(self) -> Iterator[Any] | None:
        while self._batches.has_next():
            batch = self._batches.next_batch()
            if not self._is_whole(batch):
                raise CorruptRecordException(f"Invalid CRC - {self._partition}")
            if not self._is_hidden(batch):
                self._end = batch.next_offset
                return dropwhile(self._was_not_asked_for, batch)
            self.next_fetch_offset = batch.next_offset
        return None

    def _is_whole(self, batch: Any) -> bool:
        """Tell whether a batch has the checksum that is written in it."""
        sent, begin = self._sent, self._at
        if sent is None or CHECKSUM is None or sent[begin + MAGIC] < 2:
            return bool(batch.validate_crc())
        self._at = end = begin + LENGTH + 4 + int.from_bytes(sent[begin + LENGTH : begin + LENGTH + 4], "big")
        return bool(CHECKSUM(sent[begin + CHECKED : end]) == batch.crc)

    def _was_not_asked_for(self, record: Any) -> bool:
        """Tell whether a record comes along only because a batch comes whole."""
        return bool(record.offset < self.next_fetch_offset)

    def _is_hidden(self, batch: Any) -> bool:
        """Tell whether a batch is a marker of a transaction, or part of one that was aborted."""
        records, producer = self._records, batch.producer_id
        if records._isolation_level == READ_COMMITTED and producer is not None:
            records._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and records._contains_abort_marker(batch):
                records._aborted_producers.discard(producer)
            if batch.is_transactional and producer in records._aborted_producers:
                return True
        return bool(batch.is_control_batch)
