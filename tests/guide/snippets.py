"""Which snippet of the guide stands in which file and is run by which test, and how the two are compared.

A snippet's file holds its lines as they are in the guide. What may be added is what the guide leaves out: indentation,
docstrings of the file, imports, methods that the snippet calls or lacks, and a last statement that runs the worker.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

FOLDER = Path(__file__).parent / "snippets"
GUIDE = Path(__file__).with_name("scaling-pythia-workers.txt")


@attrs.frozen
class Snippet:
    """A snippet: its heading and first line, the line after it if any, its file, and the test that runs it."""

    heading: str
    first: str
    until: str
    file: str
    test: str
    broker: str

    @property
    def lines(self) -> list[str]:
        """Its lines in the guide, but for blank ones, with single spaces."""
        lines = [squeezed(line) for line in GUIDE.read_text().splitlines()]
        start = lines.index(squeezed(self.first), lines.index(squeezed(self.heading)))
        end = lines.index(self.until, start) if self.until else len(lines)
        return [line for line in lines[start:end] if line]

    @property
    def path(self) -> Path:
        """Its file."""
        return FOLDER / self.file


SNIPPETS = (
    Snippet(
        "Multiple Worker Processes",
        "# worker.py",
        "# Run multiple instances",
        "worker.py",
        "test_processes.py::test_four_processes_share_the_orders",
        "Kafka",
    ),
    Snippet(
        "Multi-threaded Processing",
        "import asyncio",
        "Resource Configuration",
        "threads.py",
        "test_workers.py::test_heavy_work_goes_to_the_threads_of_the_guide",
        "Redis",
    ),
    Snippet(
        "Resource Configuration",
        "from pythia.config import WorkerConfig",
        "📊 Load Balancing Strategies",
        "resources.py",
        "test_settings.py::test_the_resource_configuration_is_what_a_worker_runs_by",
        "Redis",
    ),
    Snippet(
        "Consumer Groups (Kafka)",
        "# Worker instance 1",
        "Queue Distribution (RabbitMQ)",
        "kafka_group.py",
        "test_workers.py::test_two_workers_of_a_kafka_group_have_half_of_the_partitions_each",
        "Kafka",
    ),
    Snippet(
        "Queue Distribution (RabbitMQ)",
        "from pythia.brokers.rabbitmq import RabbitMQConsumer",
        "Redis Streams Consumer Groups",
        "rabbitmq_queue.py",
        "test_workers.py::test_workers_on_one_rabbitmq_queue_share_its_tasks",
        "RabbitMQ",
    ),
    Snippet(
        "Redis Streams Consumer Groups",
        "from pythia.brokers.redis import RedisStreamsConsumer",
        "🌍 Geographic Distribution",
        "redis_group.py",
        "test_workers.py::test_workers_of_a_redis_group_with_the_name_of_the_guide_share_its_events",
        "Redis",
    ),
    Snippet(
        "Multi-Region Setup",
        "# US East worker",
        "Cross-Region Replication",
        "regions.py",
        "test_workers.py::test_each_region_has_its_own_cluster",
        "two of Kafka",
    ),
    Snippet(
        "Fan-Out Pattern",
        "from pythia import Worker",
        "Pipeline Pattern",
        "fan_out.py",
        "test_workers.py::test_events_fan_out_by_type",
        "Kafka",
    ),
    Snippet(
        "Pipeline Pattern",
        "# Stage 1: Data ingestion",
        "🔧 Auto-Scaling Configuration",
        "pipeline.py",
        "test_processes.py::test_a_file_of_three_stages_is_a_pipeline",
        "Kafka",
    ),
    Snippet(
        "CPU-Based Scaling",
        "import psutil",
        "Queue-Based Scaling",
        "cpu_scaling.py",
        "test_scaling.py::test_the_cpu_decides_what_a_worker_says_of_scaling",
        "",
    ),
    Snippet(
        "Queue-Based Scaling",
        "from pythia.brokers.kafka import KafkaAdmin",
        "🏗️ Infrastructure Scaling",
        "queue_scaling.py",
        "test_scaling.py::test_the_lag_decides_what_a_worker_says_of_scaling",
        "Kafka",
    ),
    Snippet(
        "Metrics Collection",
        "from pythia.monitoring import MetricsCollector",
        "Alerting Rules",
        "metrics_collection.py",
        "test_metrics.py::test_the_guides_metrics_stand_beside_pythias_own",
        "",
    ),
    Snippet(
        "Configuration Management",
        "import os",
        "Testing Scaling",
        "environment.py",
        "test_settings.py::test_the_environment_chooses_the_configuration",
        "",
    ),
    Snippet(
        "Testing Scaling",
        "import asyncio",
        "",
        "load.py",
        "test_load.py::test_horizontal_scaling_as_the_guide_tests_it_on_kafka",
        "Kafka, Redis",
    ),
)


def squeezed(line: str) -> str:
    """Return a line without its indentation and with single spaces, as the guide has it."""
    return re.sub(r"\s+", " ", line.strip())


def added(snippet: Snippet) -> list[str]:
    """Return the lines of a snippet's file that are not of the guide, in its order.

    Raises:
        AssertionError: if a line of the guide is missing or stands elsewhere.
    """
    text = snippet.path.read_text()
    wanted, extra = list(snippet.lines), []
    allowed = set(allowed_lines(ast.parse(text), set(wanted)))
    for number, line in enumerate(text.splitlines(), start=1):
        if wanted and squeezed(line) == wanted[0]:
            wanted.pop(0)
        elif line.strip() and number not in allowed:
            extra.append(line)
    assert not wanted, f"{snippet.file} lacks, or has elsewhere: {wanted[0]}"
    return extra


def allowed_lines(tree: ast.Module, guide: set[str]) -> Iterator[int]:
    """Yield the numbers of the lines that may be added to a snippet."""
    nodes: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    nodes.append(tree.body[0])  # the docstring
    if isinstance(tree.body[-1], ast.If):
        nodes.append(tree.body[-1])
    for kind in tree.body:
        if isinstance(kind, ast.ClassDef):
            nodes += [node for node in kind.body if is_new_method(node, guide)]
    for node in nodes:
        yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def is_new_method(node: ast.stmt, guide: set[str]) -> bool:
    """Tell whether a statement is a method that the guide calls or leaves out."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return squeezed(ast.unparse(node).splitlines()[0]) not in guide


def rows() -> list[str]:
    """Return the rows of the table in docs/guide.md."""
    return [
        f"| {snippet.heading} | [{snippet.file}](../tests/guide/snippets/{snippet.file}) "
        f"| `{snippet.test}` | {snippet.broker or '—'} |"
        for snippet in SNIPPETS
    ]
