"""Settings: precedence, origins, and errors that name setting, value, place and what is allowed."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from pythia_core import (
    JSON,
    TEXT,
    BrakePolicy,
    ByContentType,
    ConfigError,
    Limits,
    Middleware,
    RetryPolicy,
    Secret,
    Settings,
    Sink,
    Typed,
)
from pythia_core.brokers.memory import MemoryConsumer, MemoryProducer
from pythia_core.config import UNSET, Resolved, WorkerConfig, resolve
from pythia_core.config.fields import FIELDS
from pythia_core.plugins import Registry

CANARY = "canary-5f2c"


@attrs.frozen
class Vault(MemoryConsumer):
    """A source with something to hide."""

    password: Secret | None = attrs.field(default=None, kw_only=True)
    url: str = attrs.field(default="", kw_only=True)


class Slow(Middleware):
    """A middleware with an option."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds


class Never:
    """A scaling policy, as far as its shape goes."""

    def decide(self, snapshot: Any, state: Any) -> Any:
        raise NotImplementedError


REGISTRY = Registry(
    sources={"vault": Vault},
    sinks={"memory": MemoryProducer},
    middleware={"slow": Slow},
    scaling_policies={"never": Never},
)


def resolved(config: WorkerConfig | None = None, toml: str = "", **options: Any) -> Resolved:
    """Resolve with a registry of the test's own and a file of this content."""
    if toml:
        options["file"] = FILES / "pythia.toml"
        options["file"].write_text(toml)
    options = {"environ": {}, "registry": REGISTRY, "worker": "order-processor", **options}
    return resolve(config, **options)


FILES = Path()


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.FILES", tmp_path)


def test_nothing_said_gives_the_defaults() -> None:
    """The defaults are those of Settings, and say so."""
    found = resolved()
    assert found.settings == Settings()
    assert set(found.origin.values()) == {"default"}
    assert found.source is UNSET and found.dead_letter is UNSET


PLACES: dict[str, dict[str, Any]] = {
    "command line": {"overrides": {"batch_size": "1"}},
    "code": {"config": WorkerConfig(batch_size=2)},
    "environment PYTHIA_BATCH_SIZE": {"environ": {"PYTHIA_BATCH_SIZE": "3"}},
    "[worker.order-processor]": {
        "toml": "[worker.order-processor]\nbatch_size = 4\n[worker]\nbatch_size = 5\n"
    },
    "[worker]": {"toml": "[worker]\nbatch_size = 5\n"},
}


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_the_first_place_that_says_anything_counts(first: int) -> None:
    """Command line, code, environment, file for this worker, file for all."""
    said: dict[str, Any] = {}
    for options in list(PLACES.values())[first:][::-1]:
        said.update(options)
    found = resolved(**said)
    assert found.settings.batch_size == first + 1
    assert found.origin["batch_size"].endswith(list(PLACES)[first])


def test_groups_are_put_together_from_several_places() -> None:
    """Each of retry, brake and limits has its own precedence within."""
    found = resolved(
        WorkerConfig(retry={"cap": 40}, brake={"share": 1}),
        "[worker.retry]\nattempts = 3\nbase = 0.5\n[worker.order_processor.limits]\nmessages = 9\n",
        environ={"PYTHIA_RETRY_ATTEMPTS": "4", "PYTHIA_LIMITS_SPAN": "7", "PYTHIA_BRAKE_PROBES": "5"},
    )
    assert found.settings.retry == RetryPolicy(attempts=4, base=0.5, cap=40)
    assert found.settings.limits == Limits(messages=9, span=7)
    assert found.settings.brake == BrakePolicy(share=1, probes=5)
    assert found.origin["retry.cap"] == "code"
    assert found.origin["retry.attempts"] == "environment PYTHIA_RETRY_ATTEMPTS"
    assert found.origin["retry.base"].endswith("[worker.retry]")
    assert found.origin["limits.messages"].endswith("[worker.order_processor.limits]")
    assert found.origin["retry.factor"] == "default"


def test_a_group_given_as_an_object_gives_all_of_it() -> None:
    """RetryPolicy(attempts=3) in code leaves the environment nothing to say."""
    found = resolved(WorkerConfig(retry=RetryPolicy(attempts=3)), environ={"PYTHIA_RETRY_CAP": "99"})
    assert found.settings.retry == RetryPolicy(attempts=3)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_setting_can_be_said_everywhere(name: str) -> None:
    """A setting's default, written as text in the environment, on the command line or in a file, is understood."""
    field = FIELDS[name]
    text = {
        "order": "key",
        "max_memory_mb": "none",
        "max_cpu_percent": "none",
        "handler_timeout": "none",
    }.get(name, str(field.default).lower())
    group, _, short = name.rpartition(".")
    header = f"[worker.{group}]" if group else "[worker]"
    places: list[dict[str, Any]] = [
        {"environ": {field.variable: text}},
        {"overrides": {name: text}},
        {"toml": f'{header}\n{short} = "{text}"\n'},
    ]
    for options in places:
        found = resolved(**options)
        assert found.origin[name] != "default"
        assert str(found.value(name)).lower() == text


def test_an_empty_variable_and_an_option_not_given_say_nothing() -> None:
    """Templates of deployments leave variables empty, and click leaves options None."""
    found = resolved(environ={"PYTHIA_BATCH_SIZE": ""}, overrides={"batch_size": None})
    assert found.origin["batch_size"] == "default"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"environ": {"PYTHIA_BATCH_SIZE": "many"}},
            "batch_size is 'many' (environment PYTHIA_BATCH_SIZE); it must be a whole number of at least 1",
        ),
        ({"environ": {"PYTHIA_BATCH_SIZE": "0"}}, "at least 1"),
        (
            {"environ": {"PYTHIA_BATCH_TIMEOUT": "0"}},
            "batch_timeout is '0' (environment PYTHIA_BATCH_TIMEOUT); it must be a number above 0",
        ),
        ({"environ": {"PYTHIA_BATCH_TIMEOUT": "nan"}}, "a number above 0"),
        ({"environ": {"PYTHIA_ORDER": "keys"}}, "it must be one of key, partition, none"),
        (
            {"environ": {"PYTHIA_RETRY_FACTOR": "0.5"}},
            "retry.factor is '0.5' (environment PYTHIA_RETRY_FACTOR); it must be a number of at least 1",
        ),
        ({"environ": {"PYTHIA_RETRY_CAP": "0.1"}}, "cap >= base (retry.cap: environment PYTHIA_RETRY_CAP)"),
        ({"environ": {"PYTHIA_LOG_LEVEL": "loud"}}, "one of debug, info, warning, error, critical"),
        ({"environ": {"PYTHIA_CODEC": "pickle"}}, "there is no codec 'pickle' (environment PYTHIA_CODEC)"),
        (
            {"environ": {"PYTHIA_MIDDLEWARE": "slo"}},
            "there is no middleware 'slo' (environment PYTHIA_MIDDLEWARE); did you mean slow?",
        ),
        (
            {"overrides": {"bach_size": "1"}},
            "there is no setting 'bach_size' (command line); did you mean batch_size?",
        ),
        ({"toml": "[worker]\nbach_size = 1"}, "pythia.toml [worker]); did you mean batch_size?"),
        ({"toml": "[worker.other]\nbach_size = 1"}, "[worker.other]); did you mean batch_size?"),
        ({"toml": "[worker.retyr]\nattempts = 1"}, "no setting 'attempts'"),
        ({"toml": "[worker.retry]\natempts = 1"}, "did you mean retry.attempts?"),
        ({"toml": "[worker]\nbatch_size = true"}, "batch_size is True"),
        ({"toml": "[worker]\nbody_type = 'Order'"}, "given in code, not in a file"),
        ({"toml": "[wroker]\nbatch_size = 1"}, "has no use for 'wroker'; did you mean worker?"),
        ({"toml": "worker = 1"}, "must be a table"),
        ({"toml": "batch_size ="}, "is not TOML"),
        ({"toml": "[worker]\nmiddleware = 5"}, "it must be a list"),
        ({"toml": "[worker]\nsource = 5"}, "which is no source"),
        ({"toml": "[worker.source]\ntopic = 'x'"}, 'say which with kind = "..."'),
        ({"toml": "[worker.source]\nkind = 'valut'"}, "did you mean vault?"),
        ({"toml": "[worker.source]\nkind = 'vault'\ntopik = 'x'"}, "source vault has no option 'topik'"),
        ({"toml": "[worker.source]\nkind = 'vault'"}, "source vault needs topic"),
        ({"file": Path("/nowhere/p.toml")}, "/nowhere/p.toml cannot be read: No such file"),
    ],
)
def test_an_error_names_the_setting_its_value_its_place_and_what_is_allowed(
    options: dict[str, Any], told: str
) -> None:
    """Whatever is wrong and wherever it was said."""
    with pytest.raises(ConfigError) as caught:
        resolved(**options)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"batch_size": 0}, "batch_size is 0 (code)"),
        ({"batch_size": "x"}, "batch_size is 'x' (code)"),
        ({"drain_timeout": -1}, "a number of at least 0"),
        ({"retry": 3}, "it must be a RetryPolicy or a mapping"),
        ({"retry": {"atempts": 3}}, "did you mean attempts?"),
        ({"limits": {"messages": 0}}, "limits.messages is 0 (code)"),
    ],
)
def test_code_is_checked_where_it_is_written(given: dict[str, Any], told: str) -> None:
    """The traceback ends at the line with the wrong value."""
    with pytest.raises(ConfigError) as caught:
        WorkerConfig(**given)
    assert told in str(caught.value)


def test_a_config_shows_only_what_was_given() -> None:
    """Its repr is what its author wrote."""
    assert (
        repr(WorkerConfig(batch_size=3, dead_letter=None)) == "WorkerConfig(batch_size=3, dead_letter=None)"
    )


def test_components_are_made_from_a_file() -> None:
    """Sources, sinks, middleware and policies are named by kind, with options as their classes ask for them."""
    found = resolved(
        toml="""
        [worker]
        middleware = ["slow", { kind = "slow", seconds = "3" }]
        scaling = "never"
        codec = "text"
        [worker.source]
        kind = "vault"
        topic = "orders"
        partitions = "4"
        [worker.sink]
        kind = "memory"
        topic = "done"
        [worker.dead_letter]
        kind = "memory"
        topic = "bad"
        """
    )
    assert isinstance(found.source, Vault) and found.source.partitions == 4
    assert isinstance(found.sink, Sink) and found.sink.name == "done"
    assert isinstance(found.dead_letter, Sink) and found.dead_letter.name == "bad"
    assert [middleware.seconds for middleware in found.middleware if isinstance(middleware, Slow)] == [
        1.0,
        3.0,
    ]
    assert isinstance(found.scaling, Never)
    assert found.codec is TEXT


def test_objects_in_code_need_no_plugins() -> None:
    """What is an object already is taken as it is, and no registry is asked."""
    middleware, sink = Slow(), MemoryProducer("bad")
    config = WorkerConfig(middleware=[middleware], dead_letter=sink, codec=TEXT)
    found = resolve(config, environ={"PYTHIA_PLUGINS": "not-installed"})
    assert found.middleware == (middleware,)
    assert found.dead_letter is sink


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"config": WorkerConfig(dead_letter=None)}, None),
        ({"environ": {"PYTHIA_DEAD_LETTER": "none"}}, None),
        ({"environ": {"PYTHIA_DEAD_LETTER": "natural"}}, UNSET),
        ({}, UNSET),
    ],
)
def test_no_dead_letters_and_the_natural_place_are_two_things(said: dict[str, Any], meant: Any) -> None:
    """None stops the partition; nothing said leaves it to the source."""
    assert resolved(**said).dead_letter is meant


def test_a_body_type_wraps_the_codec() -> None:
    """The engine gets one codec that does both."""
    assert resolved(WorkerConfig(body_type=dict)).body_codec == Typed(JSON, dict)
    assert resolved().body_codec is JSON


@pytest.mark.parametrize(
    "said",
    [
        {"config": WorkerConfig(codec=["json", TEXT])},
        {"environ": {"PYTHIA_CODEC": "json, text"}},
        {"overrides": {"codec": "json,text"}},
        {"toml": '[worker]\ncodec = ["json", "text"]'},
    ],
    ids=["code", "environment", "command line", "file"],
)
def test_of_several_codecs_the_content_type_chooses(said: dict[str, Any]) -> None:
    """The list is the allow-list, wherever it is said."""
    assert resolved(**said).codec == ByContentType([JSON, TEXT])


def test_a_codec_of_a_list_is_known() -> None:
    """One wrong name in a list is an error, and not a codec fewer."""
    with pytest.raises(ConfigError, match=r"no codec 'pickle' \(environment PYTHIA_CODEC\)"):
        resolved(environ={"PYTHIA_CODEC": "json,pickle"})


class Unknown:
    """A class that nobody knows how to fill."""


@attrs.frozen
class Holding:
    """A class with such a field."""

    items: list[Unknown]


@pytest.mark.parametrize(
    "kind",
    [Unknown, Holding, "Order", [int], lambda: None],
    ids=["unknown", "holding", "text", "list", "function"],
)
def test_a_body_type_that_no_body_can_become_is_refused_at_the_start(kind: Any) -> None:
    """Later, every message would be a dead letter of the class's."""
    with pytest.raises(ConfigError, match=r"body_type is .* \(code\), which no body can become: .*"):
        resolved(WorkerConfig(body_type=kind))


def test_a_codec_without_its_methods_is_refused() -> None:
    """What is no codec is told by what it lacks."""
    with pytest.raises(ConfigError, match="lacks name, content_type, encode, decode"):
        resolved(WorkerConfig(codec=object()))  # type: ignore[arg-type]


def test_the_environment_can_name_the_file() -> None:
    """PYTHIA_CONFIG is for workers that have no command line."""
    path = FILES / "other.toml"
    path.write_text("[worker]\nbatch_size = 9\n")
    assert resolved(environ={"PYTHIA_CONFIG": str(path)}).settings.batch_size == 9


def test_a_misspelt_variable_is_warned_of() -> None:
    """Those that look like none of ours are somebody else's."""
    found = resolved(
        environ={"PYTHIA_BATCHSIZE": "1", "PYTHIA_HOME": "/x", "PYTHIA_PLUGINS": "", "PATH": "/bin"}
    )
    assert found.warnings == (
        "the environment's PYTHIA_BATCHSIZE is no setting and is ignored; did you mean PYTHIA_BATCH_SIZE?",
    )


def test_rows_show_every_setting_and_no_secret() -> None:
    """What pythia config prints: each value, where it is from, secrets and passwords in URLs masked."""
    toml = f"[worker.source]\nkind = 'vault'\ntopic = 'orders'\npassword = '{CANARY}'\nurl = 'redis://u:{CANARY}@h'\n"
    rows = resolved(toml=toml).rows()
    assert {row.name for row in rows} >= {*FIELDS, "source", "sink", "dead_letter", "codec"}
    source = next(row for row in rows if row.name == "source")
    assert source.value == "Vault(topic='orders', password=****, url='redis://u:****@h')"
    assert source.origin.endswith("pythia.toml [worker.source]")
    assert CANARY not in str(rows)
