"""The dashboard for Grafana: written by code, about metrics that there are, in expressions that Prometheus understands."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from docs.grafana import FILE, written
from docs.grafana_panels import CHANGES, ROWS
from pythia_metrics.commands import grafana
from tests.metrics.test_alerts import everything
from tests.servers.server import find_program

VARIABLES = {"$job": ".*", "$slo": "60", "$__rate_interval": "1m"}


def dashboard() -> dict[str, Any]:
    """Return what the command prints."""
    result = CliRunner().invoke(grafana, [])
    assert result.exit_code == 0
    said: dict[str, Any] = json.loads(result.output)
    return said


def expressions() -> list[str]:
    """Return every expression of the dashboard, its marks among them, with Grafana's variables filled in."""
    said = dashboard()
    found = [target["expr"] for panel in said["panels"] for target in panel.get("targets", ())]
    found += [mark["expr"] for mark in said["annotations"]["list"]]
    for name, value in VARIABLES.items():
        found = [expression.replace(name, value) for expression in found]
    assert not any("$" in expression for expression in found)
    return found


def test_the_file_is_what_the_code_writes() -> None:
    """`python -m docs.grafana` writes it; the command prints it, from an installed wheel too."""
    assert FILE.read_text() == written()
    assert CliRunner().invoke(grafana, []).output == written()


def test_every_metric_of_an_expression_is_one_of_ours() -> None:
    """A panel over a name with a typo stays empty, and nobody knows why."""
    names = everything()
    labels = {"messaging_destination_name", "messaging_consumer_group_name"}
    for expression in expressions():
        said = set(re.findall(r"\b(?:pythia|process|messaging)_\w+", expression)) - labels
        assert said
        assert {re.sub("_(bucket|sum|count)$", "", name) for name in said} <= names, expression


def test_promtool_parses_every_expression(tmp_path: Path) -> None:
    """As rules, which is where promtool takes expressions; and it finds the one that is none."""
    found = expressions()
    assert len(found) > 35
    result = checked(tmp_path, found)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(found)} rules found" in result.stdout
    assert checked(tmp_path, [*found, "sum(rate(x))"]).returncode != 0


def checked(folder: Path, found: list[str]) -> subprocess.CompletedProcess[str]:
    """Have promtool look at expressions."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(found)]
    file = folder / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # YAML takes JSON
    return subprocess.run(
        [find_program("promtool"), "check", "rules", str(file)], check=False, capture_output=True, text=True
    )


def test_the_rows_are_those_that_operators_ask_for() -> None:
    """In time, flow, scaling, processes, broker; each panel has a place and a name of its own."""
    panels = dashboard()["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == list(ROWS)
    assert len(ROWS) == 5
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) == len({panel["id"] for panel in panels})
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert all(panel.get("targets") for panel in panels if panel["type"] != "row")


def test_changes_are_marked_with_their_reasons() -> None:
    """Whoever sees a step in the number of processes reads why beside it."""
    (mark,) = dashboard()["annotations"]["list"]
    assert mark["expr"] == CHANGES and "reason" in mark["titleFormat"]


def test_the_first_change_of_its_kind_is_marked_and_only_for_a_minute(tmp_path: Path) -> None:
    """It makes its counter appear, which is no increase; promtool says what Prometheus makes of it."""
    expression = CHANGES.replace("$job", ".*")
    up = 'pythia_scaling_decisions_total{job="w", direction="up", reason="drain"}'
    mark = [{"labels": '{direction="up", reason="drain"}', "value": 1}]
    cases = [
        {"expr": expression, "eval_time": when, "exp_samples": seen}
        for when, seen in (("50s", []), ("70s", mark), ("3m", []))
    ]
    series = [{"series": up, "values": "_x6 1x30"}]
    test = {"interval": "10s", "input_series": series, "promql_expr_test": cases}
    (tmp_path / "test.yml").write_text(json.dumps({"tests": [test]}))
    result = subprocess.run(
        [find_program("promtool"), "test", "rules", "test.yml"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_source_is_chosen_by_the_reader() -> None:
    """Nobody's Prometheus has the name that ours had."""
    text = FILE.read_text()
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"${datasource}", "pythia-workers"}
    assert [one["name"] for one in dashboard()["templating"]["list"]] == ["datasource", "job", "slo"]
