"""What is sent: a message with an id, a checksum and a script that says how its handling goes."""

import zlib
from random import Random

import attrs
import orjson

SCRIPTS = {"ok": 93.0, "flaky": 4.0, "slow": 2.0, "poison": 1.0, "killer": 0.005}
"""Script -> how often: works; fails at the first attempt; takes longer than a lease; fails for ever; kills its process."""


@attrs.frozen
class Message:
    """One message.

    Args:
        id: key and number, dense for each key: ``run-key-number``.
        script: how its handling goes.
        payload: any text.
        sum: checksum of the payload, as it was sent.
    """

    id: str
    script: str
    payload: str
    sum: int

    @classmethod
    def make(cls, key: str, number: int, random: Random, *, killers: bool = True) -> "Message":
        """Return the next message of a key, which may be one that kills its process."""
        scripts = SCRIPTS if killers else {**SCRIPTS, "killer": 0.0}
        (script,) = random.choices([*scripts], [*scripts.values()])
        payload = f"{random.getrandbits(random.randrange(8, 4000)):x}"
        return cls(f"{key}-{number}", script, payload, zlib.crc32(payload.encode()))

    @property
    def body(self) -> bytes:
        """The message as it is sent."""
        return orjson.dumps(attrs.asdict(self))

    @classmethod
    def read(cls, body: bytes) -> "Message":
        """Return what a body holds, with the checksum that its payload has now."""
        fields = orjson.loads(body)
        return attrs.evolve(cls(**fields), sum=zlib.crc32(fields["payload"].encode()))
