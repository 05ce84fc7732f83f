"""What Prometheus reads is what was meant."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from pythia_metrics.families import Family, expose
from pythia_metrics.registry import read


def parsed(text: str) -> dict[str, float]:
    """Return samples by name and labels, as Prometheus's own parser sees them."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def test_what_a_user_registers_is_read_and_exposed_unchanged() -> None:
    """Counter, gauge and histogram come out as prometheus_client's own exposition would have them, but for _created."""
    registry = CollectorRegistry()
    Counter("orders", "Orders.", ["kind"], registry=registry).labels('a"b\\c\nd').inc(3)
    Gauge("size", "Size.", registry=registry).set(-1.5)
    Histogram("seconds", "Seconds.", buckets=(1, 2), registry=registry).observe(1.5)
    samples = parsed(expose(read(registry)))
    assert samples == {
        "orders_total[('kind', 'a\"b\\\\c\\nd')]": 3.0,
        "size[]": -1.5,
        "seconds_bucket[('le', '1.0')]": 0.0,
        "seconds_bucket[('le', '2.0')]": 1.0,
        "seconds_bucket[('le', '+Inf')]": 1.0,
        "seconds_count[]": 1.0,
        "seconds_sum[]": 1.5,
    }


def test_what_is_not_a_number_survives_the_way_to_the_supervisor() -> None:
    """JSON has neither NaN nor infinity, and the pipe carries JSON."""
    family = Family("odd", "gauge")
    family.add(math.nan)
    loaded = Family.load(["odd", "gauge", "", "all", [["odd", [], None]]])
    assert expose([loaded]) == expose([family]) == "# HELP odd \n# TYPE odd gauge\nodd NaN\n"


def test_a_gauge_keeps_its_multiprocess_mode() -> None:
    """Only the gauge itself knows how several processes' values become one."""
    registry = CollectorRegistry()
    Gauge("least", "Least.", multiprocess_mode="min", registry=registry).set(1)
    (family,) = read(registry)
    assert Family.load(family.dump()).mode == "min"


def test_what_prometheus_client_adds_by_itself_is_left_out() -> None:
    """Each process's own figures are said under OpenTelemetry's names, once."""
    from prometheus_client import REGISTRY

    assert [family.name for family in read(REGISTRY) if family.name.startswith(("python_", "process_"))] == []


def test_a_label_is_cut() -> None:
    """A label made of a message would else fill the pipe."""
    registry = CollectorRegistry()
    Gauge("size", "Size.", ["of"], registry=registry).labels("x" * 1000).set(1)
    (family,) = read(registry)
    ((_, labels),) = family.samples
    assert labels == (("of", "x" * 200),)
