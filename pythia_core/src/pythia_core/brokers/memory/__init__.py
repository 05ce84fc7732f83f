"""The broker in memory: the embedded default, the engine's test bench, and the reference for authors of plugins.

Read it as a tutorial, bottom up: :mod:`.topic` (what is published), :mod:`.cursor` and :mod:`.queue` (the two ways to
read it), :mod:`.group` (who reads what), :mod:`.subscription` (the only file that knows an event loop), then
:mod:`.source` and :mod:`.sink`, which are what a worker's author sees.

What it promises, checked by ``tests/memory/test_model.py`` against a naive model:

- M1. Of a group, a record is in exactly one state: waiting, delivered to one live member, or settled.
- M2. A settled record is never delivered again; one that is not settled is delivered again once its member has
  released it, let its lease run out, given up its partition, or gone.
- M3. Only the assignment under which a message was delivered can settle it. Anything else is refused and changes
  nothing; saying the same twice changes nothing either and is not refused.
- M4. Where partitions are split, each has one owner at most, reads on from the committed position, and delivers in order.
- M5. A committed position never goes back and never passes what was delivered.
- M6. The delivery count grows by one with each delivery, but not for one that was released, nor for a suspect that came
  with others; a fetch of a single message brings a suspect first.
- M7. Groups do not notice one another.
- M8. A fetch never exceeds room, limit or window.
"""

from pythia_core.brokers.memory.broker import DEAD_LETTERS, DEFAULT_GROUP, MemoryBroker, find_broker
from pythia_core.brokers.memory.group import Group, Member
from pythia_core.brokers.memory.rules import Rules
from pythia_core.brokers.memory.sink import MemoryProducer
from pythia_core.brokers.memory.source import MemoryConsumer, MemoryInspector
from pythia_core.brokers.memory.subscription import MemorySubscription
from pythia_core.brokers.memory.topic import Record, Topic

__all__ = [
    "DEAD_LETTERS",
    "DEFAULT_GROUP",
    "Group",
    "Member",
    "MemoryBroker",
    "MemoryConsumer",
    "MemoryInspector",
    "MemoryProducer",
    "MemorySubscription",
    "Record",
    "Rules",
    "Topic",
    "find_broker",
]
