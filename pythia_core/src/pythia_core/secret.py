"""A value that never prints: passwords and tokens in settings are of this type, and are masked by it, not by name.

Beside it stands where one may be sent in clear text, so that every broker's plugin draws that line at the same place.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Self

from pythia_core.errors import ConfigError

__all__ = ["MASK", "Secret", "is_loopback", "mask_url"]

MASK = "****"
_PASSWORD_IN_URL = re.compile(r"(?P<start>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#:@]*:)[^\s/?#]*(?=@)")


class Secret:
    """A text that shows itself as ``****`` wherever it is printed, and that neither pickle nor JSON takes.

    Args:
        value: the text, or a function that returns it and is asked at each use, so that it can be rotated.

    Example:
        >>> password = Secret("hunter2")
        >>> print(password, [password], f"{password:>6}")
        **** [****]   ****
        >>> password.reveal()
        'hunter2'
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | Callable[[], str] | Secret) -> None:
        self._value: str | Callable[[], str] = value._value if isinstance(value, Secret) else value

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Return a secret that is read from a file at each use, without the line end: a mounted secret may change."""
        return cls(lambda: Path(path).read_text(encoding="utf-8").rstrip("\r\n"))

    @classmethod
    def from_env(cls, name: str) -> Self:
        """Return a secret that is read from an environment variable at each use."""

        def read() -> str:
            try:
                return os.environ[name]
            except KeyError:
                raise ConfigError(f"the environment has no {name}, where a secret was to be read") from None

        return cls(read)

    def reveal(self) -> str:
        """Return the text itself. Call it where the text is used, and keep the result nowhere."""
        return self._value if isinstance(self._value, str) else self._value()

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    __hash__ = object.__hash__  # never of the text: a hash is a hint

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: it would leave the process; pass it by environment or file")


def mask_url(text: str) -> str:
    """Return the text with the password of every URL in it masked.

    Example:
        >>> mask_url("redis://worker:hunter2@db:6379/0")
        'redis://worker:****@db:6379/0'
    """
    return _PASSWORD_IN_URL.sub(rf"\g<start>{MASK}", text)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its very name, so that a secret may go there in clear text.

    Args:
        host: a name or an address; one of IPv6 may stand in brackets. Names other than ``localhost`` are not looked up.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
