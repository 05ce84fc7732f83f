"""Our way through the bytes of an answer beside that of the client, on whatever a partition may hold."""

from __future__ import annotations

import gc
import struct
import weakref
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from pythia_kafka.message import Partition
from pythia_kafka.unpacking import Unpacked

PARTITION = Partition("orders", 0)
CRC, ATTRIBUTES, LAST_OFFSET_DELTA = 17, 21, 23  # where they stand in a batch
CONTROL = 0x20
ABORT, COMMIT = 0, 1


@attrs.frozen
class Batch:
    """A batch of records as a broker keeps it.

    Args:
        gaps: how many offsets are left out before each record, as by compaction.
        tail: how many are left out behind the last.
        producer: of a transaction; -1 for none.
        marker: ABORT or COMMIT, for a batch that is such a marker.
        compression: 0 for none, 1 for gzip.
    """

    gaps: Sequence[int] = (0,)
    tail: int = 0
    producer: int = -1
    marker: int | None = None
    compression: int = 0

    def write(self, first: int) -> tuple[bytes, int]:
        """Return the bytes, and the offset after them."""
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0 if self.marker is not None else self.compression,
            is_transactional=self.producer >= 0,
            producer_id=self.producer,
            producer_epoch=0,
            base_sequence=0,
            batch_size=1 << 20,
        )
        delta = -1
        for gap in (0,) if self.marker is not None else self.gaps:
            delta += 1 + gap
            key = b"k" if self.marker is None else struct.pack(">hh", 0, self.marker)
            builder.append(delta, 1_700_000_000_000 + delta, key, b"%d" % (first + delta), [("h", b"v")])
        raw = bytearray(builder.build())
        raw[:8] = struct.pack(">q", first)
        raw[LAST_OFFSET_DELTA : LAST_OFFSET_DELTA + 4] = struct.pack(">i", delta + self.tail)
        if self.marker is not None:
            raw[ATTRIBUTES + 1] |= CONTROL
        raw[CRC : CRC + 4] = struct.pack(">I", calc_crc32c(memoryview(raw)[ATTRIBUTES:]))
        return bytes(raw), first + delta + self.tail + 1

    def write_legacy(self, first: int) -> tuple[bytes, int]:
        """Do the same as before Kafka 0.11, which knew neither gaps within nor transactions."""
        builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 20)
        for number in range(len(self.gaps)):
            builder.append(first + number, 1_700_000_000_000, b"k", b"%d" % (first + number))
        return bytes(builder.build()), first + len(self.gaps)


def log_of(batches: Sequence[Batch], first: int = 100, *, legacy: bool = False) -> tuple[bytes, list[int]]:
    """Return batches one behind the other, and where each begins; the client expects one format in all of them."""
    raw, starts = b"", list[int]()
    for batch in batches:
        starts.append(first)
        more, first = batch.write_legacy(first) if legacy else batch.write(first)
        raw += more
    return raw, [*starts, first]


def parser(raw: bytes, asked: int, aborted: Sequence[tuple[int, int]], level: int) -> PartitionRecords:
    """Return the client's own parser."""
    return PartitionRecords(
        PARTITION,
        MemoryRecords(raw),
        list(aborted),
        asked,
        None,
        None,
        check_crcs=True,
        isolation_level=level,
    )


def theirs(records: Any) -> tuple[list[tuple[Any, ...]], int]:
    """Return what the client makes of all of it, and where it reads on."""
    found = [(r.offset, r.key, r.value, r.timestamp, tuple(r.headers)) for r in records]
    return found, records.next_fetch_offset


def ours(
    records: PartitionRecords, counts: Sequence[int], sent: bytes | None = None
) -> tuple[list[tuple[Any, ...]], int]:
    """Return what we make of all of it, taken in portions."""
    unpacked, found, turn = Unpacked(PARTITION, records, sent), list[Any](), 0
    while not unpacked.over:
        count = counts[turn % len(counts)]
        turn += 1
        messages = unpacked.take(count)
        assert len(messages) <= count
        assert not messages or unpacked.next_fetch_offset > messages[-1].position
        found += messages
    assert {message.partition for message in found} <= {PARTITION}
    made = [(m.position, m._record.key, m.raw, m._record.timestamp, tuple(m._record.headers)) for m in found]
    return made, unpacked.next_fetch_offset


batches = st.lists(
    st.builds(
        Batch,
        gaps=st.lists(st.integers(0, 2), min_size=1, max_size=6),
        tail=st.integers(0, 2),
        producer=st.integers(-1, 2),
        marker=st.sampled_from([None, None, None, ABORT, COMMIT]),
        compression=st.integers(0, 1),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(
    batches,
    st.booleans(),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), max_size=3),
    st.sampled_from([READ_COMMITTED, READ_UNCOMMITTED]),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
)
def test_it_finds_what_the_client_finds(
    log: Sequence[Batch],
    legacy: bool,
    skipped: int,
    aborted: Sequence[tuple[int, int]],
    level: int,
    counts: Sequence[int],
) -> None:
    """The same records and the same position, whatever portions they are taken in and wherever in a batch it begins."""
    raw, starts = log_of(log, legacy=legacy)
    gone = [(producer, starts[min(number, len(log) - 1)]) for producer, number in aborted]
    asked = starts[0] + skipped
    expected = theirs(parser(raw, asked, gone, level))
    for sent in (raw, None):
        assert ours(parser(raw, asked, gone, level), counts, sent) == expected


def test_an_answer_is_gone_when_it_is_over() -> None:
    """It may be a megabyte, and the collector comes by only after thousands of objects."""
    records = parser(log_of([Batch((0, 0)), Batch((0,))])[0], 100, (), READ_COMMITTED)
    there = weakref.ref(records)
    unpacked = Unpacked(PARTITION, records)
    gc.disable()
    try:
        for count in (1, 9):
            unpacked.take(count)
        assert unpacked.over
        del records, unpacked
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("at_hand", [True, False], ids=["bytes at hand", "parser only"])
def test_what_comes_before_a_broken_batch_is_handed_over(at_hand: bool) -> None:
    """It is not taken along; asked for again, the broken one is the first, and an error."""
    raw, starts = log_of([Batch((0, 0)), Batch((0,), tail=1), Batch((0, 0))])
    broken = bytearray(raw)
    broken[-3] ^= 1
    sent = bytes(broken)
    unpacked = Unpacked(PARTITION, parser(sent, 100, (), READ_COMMITTED), sent if at_hand else None)
    assert [message.position for message in unpacked.take(10)] == [100, 101, 102]
    assert unpacked.over
    assert unpacked.next_fetch_offset == starts[2] == 104
    begin = len(log_of([Batch((0, 0)), Batch((0,), tail=1)])[0])
    rest = sent[begin:]
    again = Unpacked(PARTITION, parser(rest, 104, (), READ_COMMITTED), rest if at_hand else None)
    with pytest.raises(CorruptRecordException, match="CRC"):
        again.take(10)
    assert again.over


def test_bytes_of_something_else_are_not_looked_at() -> None:
    """They would condemn what is whole: where they do not fit, the client's own check is good enough."""
    raw = log_of([Batch((0, 0)), Batch((0,))])[0]
    other = log_of([Batch((0, 0))])[0]
    assert len(Unpacked(PARTITION, parser(raw, 100, (), READ_COMMITTED), other).take(10)) == 3
