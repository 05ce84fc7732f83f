"""What the processes of a worker may share beside the broker: a rate limit's tokens, and identities of what is done.

They stand apart from middleware, which uses them, because a plugin implements them where its server can.
"""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum

from pythia_core.contracts.resource import Resource


class TokenBucket(Resource):
    """Tokens that several processes share, one for each call. Open it before use."""

    @abstractmethod
    async def take(self, rate: float, burst: int, most: int) -> tuple[int, float]:
        """Take up to ``most`` tokens of a bucket that holds ``burst`` and gains ``rate`` a second.

        Returns:
            How many were taken, and if none, in how many seconds there is one.

        Raises:
            Exception: if the bucket cannot be reached.
        """


class Seen(Enum):
    """What a store knows of an identity."""

    NEVER = "never"
    RUNNING = "running"
    DONE = "done"


class IdempotencyStore(Resource):
    """Remembers identities. Each call is one step that nobody can come between; it raises if the store is out of reach."""

    @abstractmethod
    async def begin(self, identity: str, owner: str, lease: float) -> tuple[Seen, float]:
        """Take an identity that nobody has for ``lease`` seconds. The same owner may ask again, if no answer came.

        Returns:
            What was known of it before: NEVER means that it is ours now; with RUNNING come the seconds that are left of
            the other's lease.
        """

    @abstractmethod
    async def finish(self, identity: str, keep: float) -> None:
        """Remember for ``keep`` seconds that it is done, whoever has it."""

    @abstractmethod
    async def forget(self, identity: str, owner: str) -> None:
        """Give up an identity, if it is still ours."""
