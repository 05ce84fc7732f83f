"""Giving up partitions: the one thing a group asks of a member that takes time, and therefore needs an event loop."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from pythia_core.brokers.memory.group import Group, Member

DRAIN_SHARE = 0.9  # of the time a member has; the rest is for the way back, after which it would be expired


async def give_up(group: Group, member: Member, clock: Callable[[], float]) -> bool:
    """Have a member's owner drain what is asked of it, and give that up; return False if nothing is asked."""
    asked = {partition: member.held[partition] for partition in group.to_give_up(member)}
    if not asked:
        return False
    left = 0.0 if member.deadline is None else max(0.0, member.deadline - clock())
    await member.owner.revoked(list(asked), anyio.current_time() + left * DRAIN_SHARE)
    # Meanwhile it may have been expired and have joined again; what it has since then is not given up.
    group.gave_up(member, [partition for partition, id in asked.items() if member.held.get(partition) == id])
    return True
