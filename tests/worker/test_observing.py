"""What a report says of how much is left."""

import anyio
import attrs

from pythia_core import Backlog
from pythia_core.brokers.memory import MemoryBroker, MemoryConsumer
from pythia_core.observing import FULLEST, Observation


async def test_the_report_names_the_fullest_partitions() -> None:
    """Whoever looks at a fleet sees which ones lag; of thousands, a dozen."""
    broker = MemoryBroker(partitions=2 * FULLEST)
    for key in range(500):
        broker.publish("orders", key, key=str(key))
    observation = Observation(MemoryConsumer("orders", broker=broker, ack="cumulative"), "memory")
    with anyio.move_on_after(0.1):
        await observation.run()
    said = observation.report()
    assert said is not None and said["partitions"] == 2 * FULLEST
    lags = [waiting for _, waiting, _ in said["fullest"]]
    assert len(lags) == FULLEST and lags == sorted(lags, reverse=True)
    assert lags[0] == said["max_partition_lag"]
    assert said["fullest"][0][2] > 0


async def test_the_report_names_no_partition_where_there_are_none() -> None:
    """And no error makes of what is unknown a zero."""
    observation = Observation(MemoryConsumer("orders"), "memory")
    assert observation.report() is None
    observation._seen = (0.0, Backlog(by_partition={0: attrs.evolve(Backlog(), waiting=None)}))
    said = observation.report()
    assert said is not None and said["fullest"] == [] and said["max_partition_lag"] is None
