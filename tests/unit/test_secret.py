"""Secrets: that they never print, by whatever road, and come out only when asked."""

import copy
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_core import ConfigError, Secret, is_loopback, mask_url

CANARY = "canary-5f2c"


@attrs.frozen
class Login:
    user: str
    password: Secret


@pytest.mark.parametrize(
    "text",
    [
        str(Secret(CANARY)),
        repr(Secret(CANARY)),
        f"{Secret(CANARY)!s:>10} {Secret(CANARY)}",
        "%s %r" % (Secret(CANARY), Secret(CANARY)),  # noqa: UP031 - logging's way
        repr({"password": [Secret(CANARY)]}),
        repr(Login("ann", Secret(CANARY))),
        str(ValueError(Secret(CANARY))),
    ],
)
def test_a_secret_never_prints(text: str) -> None:
    """Every way of making text of it shows the mask."""
    assert CANARY not in text
    assert "****" in text


@pytest.mark.parametrize("serialize", [pickle.dumps, json.dumps, orjson.dumps])
def test_a_secret_is_not_serialized(serialize: Any) -> None:
    """It leaves the process by no serializer, and the refusal does not show it."""
    with pytest.raises(TypeError) as caught:
        serialize({"password": Secret(CANARY)})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_secret_is_revealed_on_request() -> None:
    """The text is there for the one who needs it."""
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(Secret(CANARY)).reveal() == CANARY


def test_a_secret_of_a_function_is_asked_each_time() -> None:
    """What is rotated is seen at the next use."""
    values = iter(["old", "new"])
    secret = Secret(lambda: next(values))
    assert [secret.reveal(), secret.reveal()] == ["old", "new"]


def test_a_secret_of_a_file_follows_the_file(tmp_path: Path) -> None:
    """A mounted secret that is replaced is read anew, without its line end."""
    path = tmp_path / "password"
    path.write_text("old\n")
    secret = Secret.from_file(path)
    assert secret.reveal() == "old"
    path.write_text("new\r\n")
    assert secret.reveal() == "new"


def test_a_secret_of_the_environment_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is read at use, and its absence names it."""
    secret = Secret.from_env("TEST_PASSWORD")
    monkeypatch.setenv("TEST_PASSWORD", "x")
    assert secret.reveal() == "x"
    monkeypatch.delenv("TEST_PASSWORD")
    with pytest.raises(ConfigError, match="TEST_PASSWORD"):
        secret.reveal()


def test_secrets_compare_by_text_and_copy_as_themselves() -> None:
    """An attrs class with a secret can be compared, copied and evolved."""
    one = Login("ann", Secret(CANARY))
    assert one == Login("ann", Secret(CANARY))
    assert one != Login("ann", Secret("other"))
    assert copy.deepcopy(one) == one
    assert attrs.evolve(one, user="bob").password.reveal() == CANARY
    assert Secret("") != "" and not Secret("")


def test_a_secret_in_a_log_record_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    """Logging formats late, and still finds only the mask."""
    logging.getLogger("test").warning("with %s", Secret(CANARY))
    assert "with ****" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:pw@h:6379/0", "redis://:****@h:6379/0"),
        ("amqps://u:p:w@h/v", "amqps://u:****@h/v"),
        (
            "cannot reach redis://u:p@h, then redis://u:q@i",
            "cannot reach redis://u:****@h, then redis://u:****@i",
        ),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("mail me@example.org: now", "mail me@example.org: now"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, masked: str) -> None:
    """Only the password goes; user, host and port still say where it failed."""
    assert mask_url(text) == masked


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="/?#"), min_size=1)
)
def test_no_password_passes_the_mask(password: str) -> None:
    """Whatever characters a password has that a URL may hold, it does not show."""
    marked = f"{CANARY}{password}"
    assert CANARY not in mask_url(f"at redis://user:{marked}@host:1/0 failed")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_only_this_machine_by_its_very_name_is_loopback(host: str, here: bool) -> None:
    """A name that merely looks like it, or that somebody's resolver decides about, is not."""
    assert is_loopback(host) is here
