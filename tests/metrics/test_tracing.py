"""Traces: what is recorded, what is handed on, and that dead letters and batches belong to the traces they come from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pythia_core import (
    BatchError,
    ConfigError,
    Headers,
    Output,
    Reject,
    RetryPolicy,
    Skip,
    Worker,
    WorkerConfig,
)
from pythia_core.brokers.memory import MemoryConsumer, MemoryProducer
from pythia_core.testing import Letter, WorkerHarness
from pythia_metrics import Tracing, tracing
from pythia_metrics.trace_context import STATE_CHARACTERS, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECORDED, UNRECORDED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is recorded, by a provider of the test's own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def worker(handler: Any, *, sample: float = 1.0, attempts: int = 1, batch: bool = False) -> Worker[Any]:
    """A traced worker whose body is ``handler``, called with worker and message, or a list of them."""

    class Traced(Worker[Any]):
        source = MemoryConsumer("orders")
        sink = MemoryProducer("bills")
        config = WorkerConfig(
            middleware=[Tracing(sample=sample)],
            retry=RetryPolicy(attempts=attempts, base=0.001),
            batch_timeout=0.05,
        )

    async def process(self: Any, message: Any) -> Any:
        return await handler(self, message)

    setattr(Traced, "process_batch" if batch else "process", process)
    return Traced()


async def run(traced: Worker[Any], *headers: dict[str, Any]) -> WorkerHarness:
    """Let a message come for each of ``headers``, and return the harness once all are settled."""
    async with WorkerHarness(traced) as harness:
        for number, pairs in enumerate(headers):
            harness.send({"id": number}, headers=pairs)
        await harness.until_done(seconds=20)
    return harness


def ids(span: ReadableSpan) -> tuple[str, str]:
    """The identities of a span's trace and of itself."""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent(letter: Letter) -> tuple[str, str, bool]:
    """The context that a written message carries: trace, span, and whether it is recorded."""
    found = read(dict(letter.headers.items_all())["traceparent"])
    assert found is not None
    return found.trace, found.span, found.sampled


async def nothing(worker: Any, message: Any) -> None:
    """Do nothing."""


async def silent(message: Any) -> None:
    """Do nothing, as a bare handler."""


async def bill(worker: Any, message: Any) -> dict[str, Any]:
    """Return a bill."""
    return {"bill": message.body["id"]}


async def test_a_message_of_a_recorded_trace_is_a_span_of_it(spans: InMemorySpanExporter) -> None:
    """With the names of the semantic conventions, whatever the share of messages that begin a trace, and no error."""
    await run(worker(nothing, sample=0.0), {"traceparent": RECORDED, "tracestate": "vendor=7"})
    (span,) = spans.get_finished_spans()
    assert span.name == "process messages" and span.kind is trace.SpanKind.CONSUMER
    assert ids(span)[0] == TRACE
    assert span.parent is not None and span.parent.is_remote and f"{span.parent.span_id:016x}" == SPAN
    assert span.context.trace_state.get("vendor") == "7"
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "messaging.system": "memory",
        "messaging.destination.name": "messages",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": span.attributes["messaging.consumer.group.name"],
        "messaging.message.id": span.attributes["messaging.message.id"],
        "messaging.message.body.size": 8,
        "messaging.destination.partition.id": "0",
        "pythia.message.attempt": 1,
    }
    assert span.status.is_unset


async def test_what_is_returned_carries_the_spans_context(spans: InMemorySpanExporter) -> None:
    """With its trace state: the next stage's span is a child of this one's."""
    harness = await run(worker(bill), {"traceparent": RECORDED, "tracestate": "vendor=7"})
    (span,) = spans.get_finished_spans()
    (output,) = harness.outputs
    assert parent(output) == (TRACE, ids(span)[1], True)
    assert output.headers["tracestate"] == "vendor=7"


async def test_what_a_handler_sends_carries_the_context_it_stands_in(spans: InMemorySpanExporter) -> None:
    """That of a span which the handler made itself, if it has."""

    async def send(worker: Any, message: Any) -> None:
        await worker.sink.send("plain")
        with trace.get_tracer("user").start_as_current_span("inner"):
            await worker.sink.send("within")

    harness = await run(worker(send), {"traceparent": RECORDED})
    inner, outer = spans.get_finished_spans()
    assert inner.parent is not None and inner.parent.span_id == outer.context.span_id
    assert [parent(output) for output in harness.outputs] == [
        (TRACE, ids(outer)[1], True),
        (TRACE, ids(inner)[1], True),
    ]


async def test_headers_that_are_all_handed_on_take_the_new_context_and_own_ones_stay(
    spans: InMemorySpanExporter,
) -> None:
    """Else the next stage would be a child of the producer; a context that the user chose is his business."""
    own = f"00-{'1' * 32}-{'2' * 16}-01"

    async def forward(worker: Any, message: Any) -> list[Output]:
        await worker.sink.send("sent", headers=message.headers)
        return [
            Output(None, "all", headers=message.headers),
            Output(None, "own", headers={"traceparent": own, "tracestate": "mine=1"}),
        ]

    harness = await run(worker(forward), {"traceparent": RECORDED, "a": "b"})
    (span,) = spans.get_finished_spans()
    sent, all_of_them, chosen = harness.outputs
    assert parent(sent) == parent(all_of_them) == (TRACE, ids(span)[1], True)
    assert sent.headers["a"] == all_of_them.headers["a"] == "b"
    assert [name for name, _ in all_of_them.headers.items_all()] == ["a", "traceparent"]
    assert chosen.headers["traceparent"] == own and chosen.headers["tracestate"] == "mine=1"


@pytest.mark.parametrize("headers", [{}, {"traceparent": UNRECORDED}])
async def test_where_nothing_is_recorded_that_is_handed_on(
    headers: dict[str, str], spans: InMemorySpanExporter
) -> None:
    """By returned and sent messages: no later stage begins a trace in the middle, and no span of the handler's own does."""

    async def both(worker: Any, message: Any) -> str:
        with trace.get_tracer("user").start_as_current_span("inner"):
            await worker.sink.send("sent")
        return "returned"

    harness = await run(worker(both, sample=0.0), headers)
    assert spans.get_finished_spans() == ()
    contexts = [parent(output) for output in harness.outputs]
    assert len(contexts) == 2 and not any(sampled for _, _, sampled in contexts)
    if headers:
        assert contexts == [(TRACE, SPAN, False)] * 2


async def test_a_recorded_message_leaves_nothing_to_the_next(spans: InMemorySpanExporter) -> None:
    """One worker task runs both, and the second is in nobody's trace."""
    seen: list[bool] = []

    async def look(worker: Any, message: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_flags.sampled)

    traced = worker(look, sample=0.0)
    traced.config = WorkerConfig(middleware=[Tracing(sample=0.0)], max_concurrent_tasks=1)
    await run(traced, {"traceparent": RECORDED}, {"traceparent": UNRECORDED}, {}, {"traceparent": RECORDED})
    assert seen == [True, False, False, True]


async def test_the_share_says_how_many_messages_begin_a_trace(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that belong to none; each of a trace of its own."""
    throws = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr("pythia_metrics.spans.random", lambda: next(throws))
    await run(
        worker(nothing, sample=0.25), {}, {}, {"traceparent": UNRECORDED}, {"traceparent": RECORDED}, {}
    )
    roots = [span for span in spans.get_finished_spans() if span.parent is None]
    assert len(roots) == 2 and len(spans.get_finished_spans()) == 3
    assert len({span.context.trace_id for span in roots}) == 2


async def test_a_failure_is_an_error_of_its_span_and_the_dead_letter_a_span_below(
    spans: InMemorySpanExporter,
) -> None:
    """The dead letter carries the context of the span that made it, so that a replay belongs to the trace too."""

    async def fail(worker: Any, message: Any) -> None:
        raise ValueError("no such order")

    harness = await run(worker(fail, attempts=2), {"traceparent": RECORDED, "a": "b"})
    first, second, created = spans.get_finished_spans()
    for span in (first, second):
        assert span.attributes is not None and span.attributes["error.type"] == "ValueError"
        assert span.status.status_code is trace.StatusCode.ERROR
        assert [event.name for event in span.events] == ["exception"]
        assert span.parent is not None and f"{span.parent.span_id:016x}" == SPAN
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert created.name.startswith("create ") and created.kind is trace.SpanKind.PRODUCER
    assert created.parent is not None and created.parent.span_id == second.context.span_id
    assert created.attributes is not None
    assert created.attributes["error.type"] == "ValueError" and created.attributes["pythia.dead_letter"]
    (letter,) = harness.dead_letters
    assert parent(letter) == (TRACE, ids(created)[1], True)
    assert letter.headers["a"] == "b" and letter.headers["pythia-error"] == "builtins.ValueError"


async def test_all_attempts_at_a_message_that_begins_a_trace_are_one_trace(
    spans: InMemorySpanExporter,
) -> None:
    """The second is a child of the first, and the dead letter of the second."""

    async def fail(worker: Any, message: Any) -> None:
        raise ValueError

    await run(worker(fail, attempts=2), {})
    first, second, created = spans.get_finished_spans()
    assert first.parent is None and second.parent == first.context and created.parent is not None
    assert created.parent.span_id == second.context.span_id
    assert len({span.context.trace_id for span in (first, second, created)}) == 1


@pytest.mark.parametrize("headers", [{}, {"traceparent": UNRECORDED}])
async def test_a_dead_letter_of_what_is_not_recorded_is_as_it_would_be(
    headers: dict[str, str], spans: InMemorySpanExporter
) -> None:
    """With the headers of its message."""

    async def fail(worker: Any, message: Any) -> None:
        raise Reject("no")

    harness = await run(worker(fail, sample=0.0), headers)
    assert spans.get_finished_spans() == ()
    (letter,) = harness.dead_letters
    assert letter.headers.get("traceparent") == headers.get("traceparent")


async def test_a_skip_is_no_error(spans: InMemorySpanExporter) -> None:
    """It is a handler's word that nothing is to be done."""

    async def skip(worker: Any, message: Any) -> None:
        raise Skip("old news")

    await run(worker(skip), {})
    (span,) = spans.get_finished_spans()
    assert span.status.is_unset and not span.events
    assert span.attributes is not None and "error.type" not in span.attributes


async def test_a_batch_is_one_span_with_links_to_each_messages_context(spans: InMemorySpanExporter) -> None:
    """Those not recorded too; what it returns for each carries the span's context."""

    async def bills(worker: Any, batch: Sequence[Any]) -> list[Any]:
        return [None if message.body["id"] == 2 else message.body["id"] for message in batch]

    contexts = [f"00-{number:032x}-{number:016x}-0{number % 2}" for number in (1, 2, 3)]
    harness = await run(worker(bills, sample=0.0, batch=True), *({"traceparent": text} for text in contexts))
    (span,) = spans.get_finished_spans()
    assert span.parent is None and [link.context.trace_id for link in span.links] == [1, 2, 3]
    assert span.attributes is not None and span.attributes["messaging.batch.message_count"] == 3
    assert [output.body for output in harness.outputs] == [0, 1]
    assert {parent(output) for output in harness.outputs} == {(*ids(span), True)}


async def test_a_batch_of_which_nothing_is_recorded_hands_each_trace_on(spans: InMemorySpanExporter) -> None:
    """Each message's own."""

    async def bills(worker: Any, batch: Sequence[Any]) -> list[Any]:
        return [message.body["id"] for message in batch]

    contexts = [f"00-{number:032x}-{number:016x}-00" for number in (1, 2)]
    harness = await run(worker(bills, sample=0.0, batch=True), *({"traceparent": text} for text in contexts))
    assert spans.get_finished_spans() == ()
    assert [output.headers["traceparent"] for output in harness.outputs] == contexts


async def test_the_dead_letter_of_a_batch_is_in_its_messages_trace(spans: InMemorySpanExporter) -> None:
    """Linked to the batch that failed for it; the others of the batch have none."""

    async def fail(worker: Any, batch: Sequence[Any]) -> None:
        raise BatchError({1: ValueError("the second")})

    contexts = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2)]
    harness = await run(worker(fail, batch=True), *({"traceparent": text} for text in contexts))
    together, created = spans.get_finished_spans()
    assert created.context.trace_id == 2 and created.parent is not None and created.parent.span_id == 2
    assert [link.context.span_id for link in created.links] == [together.context.span_id]
    (letter,) = harness.dead_letters
    assert parent(letter) == (*ids(created), True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x" * 55,
        None,
        b"\xff" * 55,
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-zz",
    ],
)
def test_a_traceparent_that_is_none_is_not_read(value: Any) -> None:
    """The standard has the trace begin anew."""
    assert read(value) is None


def test_a_traceparent_is_read_as_text_or_bytes_and_of_later_versions() -> None:
    """A later version may say more behind a dash; only the flag for sampling is looked at."""
    for value in (RECORDED, RECORDED.encode(), f"01-{TRACE}-{SPAN}-03-more"):
        found = read(value)
        assert found is not None and (found.trace, found.span, found.sampled) == (TRACE, SPAN, True)
    unrecorded = read(UNRECORDED)
    assert unrecorded is not None and not unrecorded.sampled


@pytest.mark.parametrize("state", ["=,=", "a=1,a=2", "v=" + "x" * STATE_CHARACTERS, b"\xff=\xff"])
def test_a_trace_state_that_is_none_is_dropped_and_the_trace_goes_on(state: Any) -> None:
    """It is a stranger's text, and would go into all that follows."""
    found = read(RECORDED)
    assert found is not None
    context = found.context(Headers([("tracestate", state)]))
    assert context.is_valid and len(context.trace_state) == 0


async def test_without_an_sdk_traces_are_handed_on_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is recorded, and no invalid context is written."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    harness = await run(worker(bill), {"traceparent": RECORDED}, {})
    known, new = map(parent, harness.outputs)
    assert known == (TRACE, SPAN, True) and not new[2]
    assert "no tracer provider is set" in caplog.text


async def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a worker begins; a configuration that names it can be read."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "pythia_metrics.spans", raising=False)
    with pytest.raises(ConfigError, match=r"pip install './plugins/pythia_metrics\[otlp\]'"):
        Tracing().wrap(silent)


@pytest.mark.parametrize("sample", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(sample: float) -> None:
    """Anything else is refused at once."""
    with pytest.raises(ConfigError, match="a share from 0 to 1"):
        Tracing(sample=sample)


async def test_an_end_waits_for_the_last_spans_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that does not answer must not keep a worker from ending."""
    flushed: list[int] = []
    release = __import__("threading").Event()

    class Slow(TracerProvider):
        def force_flush(self, timeout_millis: int = 0) -> bool:
            flushed.append(timeout_millis)
            return bool(release.wait(20))

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Slow())
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.1)
    layer = Tracing()
    layer.wrap(silent)
    try:
        with anyio.fail_after(10):
            await layer.aclose()
    finally:
        release.set()
    assert flushed == [100]
