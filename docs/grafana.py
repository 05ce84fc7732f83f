"""Writes the dashboard for Grafana that ``pythia grafana`` prints, from code: ``python -m docs.grafana``.

Its panels are in ``docs.grafana_panels``; how they look is said here, once. Tests compare the file with what this writes, hold each metric
in it to those that a monitor has, and have promtool parse each expression.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    LineStyle,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

from docs.grafana_panels import CHANGES, ROWS, Panel

__all__ = ["FILE", "written"]

FILE = Path(__file__).parents[1] / "plugins/pythia_metrics/src/pythia_metrics/rules/grafana.json"

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def lines_of(panel: Panel) -> timeseries.Panel:
    """Return a panel of lines."""
    made = timeseries.Panel().unit(panel.unit).min(0).height(8).span(panel.width)
    made = made.fill_opacity(8).line_width(2).show_points(VisibilityMode.NEVER)
    made = made.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = made.legend(legend.show_legend(True))
    if panel.steps:
        made = made.line_interpolation(LineInterpolation.STEP_AFTER)
    if panel.dashed:
        style = DynamicConfigValue("custom.lineStyle", LineStyle(fill="dash", dash=[8, 6]))
        made = made.override_by_regexp(f"/^({panel.dashed})$/", [style])
    if panel.limit is not None:
        steps = [Threshold(value=None, color="transparent"), Threshold(value=panel.limit, color="red")]
        made = made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        made = made.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE))
    return made


def built(panel: Panel) -> timeseries.Panel | statetimeline.Panel:
    """Return a panel as Grafana's own builder makes it."""
    made: Any = statetimeline.Panel().height(8).span(panel.width) if panel.states else lines_of(panel)
    made = made.title(panel.title).description(panel.text).datasource(SOURCE)
    for number, (expression, legend) in enumerate(panel.lines):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))
        made = made.with_target(query.range())
    return made  # type: ignore[no-any-return]


def variables() -> Iterator[Any]:
    """Yield what a reader can choose."""
    yield dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    job = dashboard.QueryVariable("job").label("Job").datasource(SOURCE)
    job = job.query("label_values(pythia_worker_replicas, job)").refresh(
        VariableRefresh.ON_TIME_RANGE_CHANGED
    )
    yield job.multi(True).include_all(True).all_value(".*")
    yield dashboard.TextBoxVariable("slo").label("A message may be old (s)").default_value("60")


def written() -> str:
    """Return the file."""
    made = dashboard.Dashboard("Pythia workers").uid("pythia-workers").tags(["pythia"])
    made = made.description("Workers of Pythia: in time, flow, scaling, processes, broker. Written by code.")
    made = (
        made.refresh("10s").time("now-1h", "now").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    )
    for variable in variables():
        made = made.with_variable(variable)
    change = dashboard.AnnotationQuery().name("Scaling").datasource(SOURCE).enable(True).icon_color("purple")
    made = made.annotation(change.expr(CHANGES))
    for title, panels in ROWS.items():
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(built(panel))
    said = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(said["panels"], 1):
        panel["id"] = number
    # the builder knows neither, and without them the marks say nothing
    said["annotations"]["list"][0] |= {"titleFormat": "{{direction}}: {{reason}}", "step": "10s"}
    return json.dumps(said, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(written())
