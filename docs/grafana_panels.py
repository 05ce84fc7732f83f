"""The panels of the dashboard for Grafana: what each asks Prometheus. ``docs.grafana`` makes Grafana's JSON of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

__all__ = ["CHANGES", "ROWS", "Panel"]

JOB: Final = 'job=~"$job"'
QUEUE: Final = "messaging_destination_name, messaging_consumer_group_name"
"""Each pod that is asked says the same of a queue, so their maximum is taken: a sum would multiply by the pods."""

NAMED: Final = "{{messaging_destination_name}} {{messaging_consumer_group_name}}"
OBJECTIVE: Final = 0.99
"""The share of time in which the oldest message is to be younger than `$slo` seconds; burn is measured against it."""


@attrs.frozen
class Panel:
    """One panel.

    Args:
        title: what it answers.
        lines: expressions with their legends.
        unit: Grafana's name of the unit.
        text: what to look for.
        width: of 24.
        dashed: a pattern of the names of lines that are bounds, not measurements.
        limit: a line at this value.
        steps: True for numbers of things, which do not pass through what lies between.
        states: True for a timeline of states instead of lines.
    """

    title: str
    lines: Sequence[tuple[str, str]]
    unit: str = "short"
    text: str = ""
    width: int = 8
    dashed: str = ""
    limit: float | None = None
    steps: bool = False
    states: bool = False


def metric(name: str, *more: str) -> str:
    """Return a selector of a metric in the chosen jobs."""
    return f"{name}{{{', '.join((JOB, *more))}}}"


def rate(name: str, *more: str) -> str:
    """Return what comes of a counter each second."""
    return f"rate({metric(name, *more)}[$__rate_interval])"


def per_queue(name: str) -> str:
    """Return a gauge of queues, once for each."""
    return f"max by ({QUEUE}) ({metric(name)})"


def quantile(share: float) -> str:
    """Return how long calls of handlers take."""
    buckets = rate("messaging_process_duration_seconds_bucket")
    return f"histogram_quantile({share}, sum by (le) ({buckets}))"


def burn(window: str) -> str:
    """Return how many times faster than allowed the budget of the objective is used up."""
    late = f"max by ({QUEUE}) ({metric('pythia_queue_oldest_message_age_seconds')}) > bool $slo"
    return f"avg_over_time(({late})[{window}:1m]) / {1 - OBJECTIVE:.2f}"


AGE: Final = per_queue("pythia_queue_oldest_message_age_seconds")
READY: Final = metric("pythia_worker_replicas", 'state="ready"')

ROWS: Final[dict[str, Sequence[Panel]]] = {
    "Is it in time?": [
        Panel("Oldest message", [(AGE, NAMED)], "s", "The age of the oldest message that is not done."),
        Panel(
            "Oldest message, 99 % of the last hour",
            [(f"quantile_over_time(0.99, ({AGE})[1h:1m])", NAMED)],
            "s",
            "What 99 of 100 looks found in the hour before.",
        ),
        Panel(
            "Time to drain",
            [(per_queue("pythia_time_to_drain_seconds"), NAMED)],
            "s",
            "What is left, over what all that are ready can do, as measured.",
        ),
        Panel(
            "Burn of the budget",
            [(burn("1h"), f"1 h {NAMED}"), (burn("6h"), f"6 h {NAMED}")],
            "none",
            f"1 uses up the budget exactly: {OBJECTIVE:.0%} of the time the oldest message is younger than $slo s. Above "
            "14 in the hour and above 6 in six hours somebody should get up.",
            width=24,
            limit=1.0,
        ),
    ],
    "What flows?": [
        Panel(
            "Messages a second",
            [
                (f"sum({per_queue('pythia_queue_arrivals_per_second')})", "come"),
                (f"sum({rate('pythia_settled_messages_total')})", "go"),
                (f"sum({metric('pythia_worker_true_rate')} * on (job, instance) {READY})", "could go"),
            ],
            "cps",
            "While `come` stays below `could go` there are enough processes.",
            width=12,
            dashed="could go",
        ),
        Panel(
            "Messages left",
            [(f"sum by (state) (max by ({QUEUE}, state) ({metric('pythia_queue_messages')}))", "{{state}}")],
            text="Not delivered, and delivered but not done.",
            width=12,
        ),
        Panel(
            "Finished, by what became of them",
            [(f"sum by (outcome) ({rate('pythia_messages_total')})", "{{outcome}}")],
            "cps",
            width=12,
        ),
        Panel(
            "Failures, retries, dead letters",
            [
                (f"sum({rate('pythia_failures_total')})", "failures"),
                (f"sum({rate('pythia_retries_total')})", "retries"),
                (f"sum({rate('pythia_dead_letters_total')})", "dead letters"),
            ],
            "cps",
            width=12,
        ),
    ],
    "How many processes, and why?": [
        Panel(
            "Processes",
            [
                (f"sum({READY})", "ready"),
                (f"sum({metric('pythia_scaling_desired_replicas')})", "desired"),
                (f"sum({metric('pythia_scaling_raw_replicas')})", "raw"),
                (f"sum by (bound) ({metric('pythia_scaling_bound_replicas')})", "{{bound}}"),
            ],
            text="Raw is what the policy wants before rounding and bounds. Each change is marked, with its reason.",
            width=12,
            dashed="min|max",
            steps=True,
        ),
        Panel(
            "Changes of the number",
            [(f"sum by (job) ({metric('pythia_scaling_desired_replicas')})", "{{job}}")],
            width=12,
            states=True,
        ),
        Panel(
            "Decisions by reason",
            [
                (
                    f"sum by (direction, reason) (increase({metric('pythia_scaling_decisions_total')}[5m]))",
                    "{{direction}} {{reason}}",
                )
            ],
        ),
        Panel(
            "Reversals and restarts in an hour",
            [
                (f"sum(increase({metric('pythia_scaling_reversals_total')}[1h]))", "taken back"),
                (f"sum(increase({metric('pythia_process_restarts_total')}[1h]))", "restarts"),
            ],
        ),
        Panel(
            "Trouble of the scaling",
            [
                (f"max({metric('pythia_scaling_at_max')})", "at the maximum"),
                (f"sum(increase({metric('pythia_scaling_policy_failures_total')}[1h]))", "policy raised"),
                (f"sum(increase({metric('pythia_observer_errors_total')}[1h]))", "broker did not say"),
            ],
        ),
    ],
    "How are the processes?": [
        Panel("Busy", [(metric("pythia_process_busy_ratio"), "process {{process}}")], "percentunit"),
        Panel(
            "A message takes",
            [(quantile(0.5), "half"), (quantile(0.99), "99 %")],
            "s",
            "One call of a handler.",
        ),
        Panel(
            "In flight, parked, stuck",
            [
                (f"sum({metric('pythia_messages_in_flight')})", "in flight"),
                (f"sum({metric('pythia_messages_parked')})", "parked"),
                (f"sum({metric('pythia_messages_stuck')})", "stuck"),
            ],
        ),
        Panel("Memory", [(metric("process_memory_usage_bytes"), "process {{process}}")], "bytes"),
        Panel(
            "Processor",
            [(f"sum by (cpu_mode) ({rate('process_cpu_time_seconds_total')})", "{{cpu_mode}}")],
            "percentunit",
        ),
        Panel(
            "Intake stopped",
            [(f"sum by (reason) ({metric('pythia_intake_stopped')})", "{{reason}}")],
            text="In how many processes, and why.",
            steps=True,
        ),
    ],
    "How is the broker?": [
        Panel(
            "Partitions",
            [
                (f"sum({per_queue('pythia_queue_partitions')})", "all"),
                (f"sum({per_queue('pythia_queue_partitions_with_lag')})", "with something left"),
                (f"sum({metric('pythia_partitions_assigned')})", "assigned"),
            ],
            steps=True,
        ),
        Panel(
            "Share of the fullest partition",
            [
                (
                    f"{per_queue('pythia_queue_max_partition_lag')} / ({per_queue('pythia_consumer_lag_messages')} > 0)",
                    NAMED,
                )
            ],
            "percentunit",
            "Near 1 one key has it all: more processes will not help.",
        ),
        Panel(
            "Rebalances",
            [
                (
                    f"sum by (event) (increase({metric('pythia_partitions_total')}[$__rate_interval]))",
                    "{{event}}",
                )
            ],
            text="Partitions that came and went; lost ones went before they were settled.",
        ),
        Panel(
            "Position held up for",
            [(f"max({metric('pythia_watermark_age_seconds')})", "longest")],
            "s",
            "By the first message that is not done.",
        ),
        Panel(
            "Told to the broker",
            [
                (f"sum({rate('pythia_commits_total')})", "calls"),
                (f"sum({rate('pythia_refused_total')})", "refused"),
            ],
            "cps",
        ),
        Panel(
            "Subscriptions in an hour",
            [(f"sum(increase({metric('pythia_subscriptions_total')}[1h]))", "made")],
        ),
    ],
}

DECISIONS: Final = metric("pythia_scaling_decisions_total", 'direction!="none"')
CHANGES: Final = f"sum by (direction, reason) ((increase({DECISIONS}[1m]) > 0) or ({DECISIONS} unless {DECISIONS} offset 1m))"
"""Changes of the last minute; the first of its kind makes a counter appear, which is no increase to Prometheus."""
