"""Where Redis is and how to log in: what is understood, what is refused, and that no password is ever shown."""

import traceback

import attrs
import pytest

from pythia_core import ConfigError, Secret, Start
from pythia_redis import RedisStreamsConsumer, RedisStreamsProducer
from pythia_redis.options import RedisOptions, parse

CANARY = "hunter2"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {}),
        ("redis://db", {"host": "db"}),
        ("redis://db:7000/3", {"host": "db", "port": 7000, "db": 3}),
        ("redis://db?db=4", {"host": "db", "db": 4}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        ("rediss://db/", {"host": "db", "tls": True}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("redis://me@db", {"host": "db", "username": "me"}),
    ],
)
def test_urls_are_understood(url: str, expected: dict[str, object]) -> None:
    """The forms that redis-py takes."""
    given = {
        name: value for name, value in attrs.asdict(parse(url), recurse=False).items() if value is not None
    }
    assert given == {"host": "localhost", "port": 6379, "tls": False, "db": 0, **expected}


def test_credentials_are_decoded() -> None:
    """A password may hold any character, written as %XX."""
    address = parse("redis://m%40e:a%2Fb%3A@db")
    assert address.username == "m@e"
    assert address.password is not None
    assert address.password.reveal() == "a/b:"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{CANARY}/x@db",  # a slash that is not written as %2F ends the host
        f"redis://:{CANARY}@db:port",
        f"redis://:{CANARY}@[db",
        f"http://:{CANARY}@db",
        f"redis://:{CANARY}@db/zero",
        f"redis://:{CANARY}@db/-1",
        f"redis://:{CANARY}@db?ssl_cert_reqs=none",
        f"redis://:{CANARY}@db?socket_timeout=1",
    ],
)
def test_bad_urls_are_refused_without_being_shown(url: str) -> None:
    """Nobody knows where the password is in a URL that cannot be read. Options that weaken TLS are not understood."""
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert CANARY not in "".join(traceback.format_exception(caught.value)).replace(url, "")


@pytest.mark.parametrize("host", ["db", "10.0.0.1", "localhost.example.com", "127.evil.com"])
def test_a_password_is_not_sent_in_clear_text(host: str) -> None:
    """To another machine that takes TLS, or a word that the network is trusted."""
    url = f"redis://:{CANARY}@{host}"
    with pytest.raises(ConfigError, match="rediss://") as caught:
        RedisStreamsConsumer("events", url=url).resolve(Start(worker="w"))
    assert CANARY not in str(caught.value)
    with pytest.raises(ConfigError, match="allow_insecure"):
        RedisOptions(url=f"redis://{host}", password=CANARY).address({})
    assert RedisOptions(url=url, allow_insecure=True).address({}).host == host
    assert RedisOptions(url=url.replace("redis:", "rediss:")).address({}).tls


@pytest.mark.parametrize(
    "url", ["redis://:x@localhost", "redis://:x@127.0.0.2", "redis://:x@[::1]", "unix://:x@/s"]
)
def test_a_password_may_stay_on_this_machine(url: str) -> None:
    """Nobody else reads along there."""
    assert RedisOptions(url=url).address({}).password is not None


def test_certificates_without_tls_are_a_mistake() -> None:
    """Whoever names an authority believes that it is asked."""
    with pytest.raises(ConfigError, match="rediss://"):
        RedisOptions(url="redis://localhost", ca_file="ca.pem").address({})


def test_what_is_left_out_comes_from_the_environment() -> None:
    """Code wins over the environment, and the environment over the defaults."""
    environ = {"REDIS_URL": "redis://there:1/2", "CONSUMER_GROUP": "processors"}
    resolved = RedisStreamsConsumer("events").resolve(Start(worker="order-worker", environ=environ))
    assert resolved.group == "processors"
    assert str(resolved.address({})) == "there:1"
    assert str(RedisOptions(url="redis://here").address(environ)) == "here:6379"
    plain = RedisStreamsConsumer("events").resolve(Start(worker="order-worker"))
    assert plain.group == "order-worker"
    assert str(plain.address({})) == "localhost:6379"


def test_arguments_beside_the_url_win() -> None:
    """A password from a mounted file and a URL from a config map go together, and the file may change."""
    passwords = iter(["one", "two"])
    address = RedisOptions(
        url="redis://a:b@localhost", username="me", password=lambda: next(passwords)
    ).address({})
    assert address.username == "me"
    assert address.password is not None
    assert [address.password.reveal(), address.password.reveal()] == ["one", "two"]


def test_no_text_of_ours_shows_a_password() -> None:
    """Sources end up in logs, reports and tracebacks."""
    url = f"redis://:{CANARY}@localhost"
    source = RedisStreamsConsumer("events", url=url, password=Secret(CANARY))
    resolved = source.resolve(Start(worker="w"))
    place = source.dead_letters()
    assert place is not None
    sink, dead_letters = place
    producer = RedisStreamsProducer("events", url=url, password=CANARY)
    for thing in (source, resolved, resolved.address({}), sink, dead_letters, producer):
        assert CANARY not in f"{thing!r} {thing}"
    assert "redis://:****@localhost" in repr(source)


def test_names_are_unique_and_tell_where_they_are() -> None:
    """Host, number and start of the process; and a second worker of the same process has another one."""
    source = RedisStreamsConsumer("events", consumer_name="worker-1")
    names = [source.resolve(Start(worker="w", slot=3, nonce="a-b")).consumer_name for _ in range(2)]
    first, second = (name or "" for name in names)
    assert first != second
    assert first.startswith("worker-1:")
    assert first.split(":")[2] == "3"
    assert ":abx" in first


def test_the_natural_place_for_dead_letters() -> None:
    """A stream beside the source, on the same server, that empties as it is replayed."""
    source = RedisStreamsConsumer("events", consumer_group="g", url="redis://localhost:7/1")
    place = source.dead_letters()
    assert place is not None
    sink, reader = place
    assert (sink.name, reader.name) == ("events:dlq", "events:dlq")
    assert str(sink.address()) == "localhost:7"
    assert reader.delete_settled
    assert reader.consumer_group == "dead-letters"
    assert reader.dead_letters() is None


@pytest.mark.parametrize(
    "options", [{"stream": ""}, {"lease_seconds": 0}, {"lease_seconds": -1}, {"start_from": "newest"}]
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    """At once, where they are written, with what is allowed."""
    with pytest.raises(ConfigError):
        RedisStreamsConsumer(**{"stream": "events", **options})  # type: ignore[arg-type]


async def test_an_unresolved_source_without_a_group_says_so() -> None:
    """There is nobody to take the name from."""
    with pytest.raises(ConfigError, match="consumer_group"):
        await RedisStreamsConsumer("events").subscribe(None)  # type: ignore[arg-type]


def test_capabilities_are_those_of_streams() -> None:
    """Entries are dealt to consumers, leased and counted."""
    capabilities = RedisStreamsConsumer("events", lease_seconds=30).capabilities
    assert (capabilities.ack, capabilities.order_scope) == ("individual", "consumer")
    assert (capabilities.lease_seconds, capabilities.delivery_count) == (30, True)
