"""What traces add to the engine: of messages that are not recorded, which are nearly all, and of those that are."""

from __future__ import annotations

from typing import Any

from bench.engine import PACKAGES, work
from bench.harness import Bench, Contender, Goal
from bench.run import Run
from pythia_metrics import Tracing


def provider() -> Any:
    """Return what records spans and forgets them: what a network costs is not ours to measure."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    made = TracerProvider()
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made


async def traced(run: Run, sample: float) -> None:
    """Run with 1,000 keys in order, with this share recorded."""
    from opentelemetry import trace

    recording = provider()
    trace.set_tracer_provider(recording)
    await work(run, "key", middleware=[Tracing(sample=sample)])
    recording.shutdown()


async def none(run: Run) -> None:
    """Record none."""
    await traced(run, 0.0)


async def some(run: Run) -> None:
    """Record one in a hundred, as is the default."""
    await traced(run, 0.01)


async def all_of_them(run: Run) -> None:
    """Record each."""
    await traced(run, 1.0)


BENCHES = [
    Bench(
        name="tracing",
        title="key order with 1,000 keys, messages without headers: what traces add",
        messages=100_000,
        reference=Contender("no tracing", "bench.engine:key_order"),
        contenders=[
            Contender("tracing, none recorded", "bench.tracing:none", Goal("more", 1.0)),
            Contender("tracing, 1 in 100 recorded", "bench.tracing:some"),
            Contender("tracing, all recorded", "bench.tracing:all_of_them"),
        ],
        needs="opentelemetry",
        packages=[*PACKAGES, "pythia-metrics", "opentelemetry-sdk"],
    ),
]
