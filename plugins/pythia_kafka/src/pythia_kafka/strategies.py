"""How a group's partitions are shared out: aiokafka's three ways, by the names that the guide uses."""

from __future__ import annotations

from typing import Any

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor


def assignor(name: str) -> type[Any]:
    """Return the class of a strategy, a new one for each member where it keeps what it knows in its class."""
    if name == "sticky":
        return type("Sticky", (StickyPartitionAssignor,), {})
    return {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}[name]
