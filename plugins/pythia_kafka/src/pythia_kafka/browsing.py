"""Shows what a group has left without joining it, so that whoever looks takes no partition from whoever works."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import anyio
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pythia_kafka.connecting import client_options, close, confine
from pythia_kafka.message import KafkaMessage, Partition
from pythia_kafka.options import Login

PAGE: Final = 500
PAGE_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0


async def browse(
    login: Login, isolation_level: str, left: Mapping[Partition, tuple[int, int]]
) -> AsyncGenerator[KafkaMessage]:
    """Yield the messages between two offsets of each partition, the oldest of all partitions first.

    Args:
        login: the cluster.
        isolation_level: whether what transactions have not committed is shown.
        left: for each partition the first offset, and the one after the last.

    Raises:
        KafkaError: if the cluster cannot be asked, or does not answer in time.
    """
    reader: Any = AIOKafkaConsumer(
        **client_options(login),
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # what was removed since is not left any more
    )
    confine(reader._client, login)
    try:
        with anyio.fail_after(PAGE_SECONDS):
            await reader.start()
        async for message in _merged(reader, left):
            yield message
    except TimeoutError:
        raise KafkaError(f"Kafka at {login} showed nothing in {PAGE_SECONDS:g} s") from None
    finally:
        await close(reader.stop, seconds=CLOSE_SECONDS)


async def _merged(reader: Any, left: Mapping[Partition, tuple[int, int]]) -> AsyncGenerator[KafkaMessage]:
    pages: dict[Partition, deque[Any]] = {p: deque() for p, (first, end) in left.items() if first < end}
    reader.assign(list(pages))
    for partition in pages:
        reader.seek(partition, left[partition][0])
    while pages:
        for partition in [partition for partition, page in pages.items() if not page]:
            pages[partition].extend(await _page(reader, partition, left[partition][1]))
            if not pages[partition]:
                del pages[partition]
        if pages:
            oldest = min(pages, key=lambda partition: pages[partition][0].timestamp)
            yield KafkaMessage(oldest, pages[oldest].popleft())


async def _page(reader: Any, partition: Partition, end: int) -> list[Any]:
    """Return records before the end; none if there are no more."""
    with anyio.fail_after(PAGE_SECONDS):
        while await reader.position(partition) < end:
            found = await reader.getmany(partition, timeout_ms=200, max_records=PAGE)
            if records := [record for record in found.get(partition, ()) if record.offset < end]:
                return records
    return []
