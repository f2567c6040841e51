"""Panels in one look: each needs a title, a description that says what good is and where to look if not, and a unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from dbwatch.outputs.grafana.layout import Placed

#: Every panel asks the data source that the dashboard's variable names.
DATASOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")

#: One colour per idea, on every dashboard.
GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
BLUE, PURPLE, GREY = "blue", "purple", "text"


@dataclass(frozen=True, slots=True)
class Style:
    """How the series of one query look."""

    color: str = ""
    dashed: bool = False
    fill: int | None = None
    points: bool = False
    unstacked: bool = False
    right_axis_unit: str = ""

    def properties(self) -> list[models.DynamicConfigValue]:
        """The field overrides that draw it so."""
        values: dict[str, object] = {}
        if self.color:
            values["color"] = {"mode": "fixed", "fixedColor": self.color}
        if self.dashed:
            values["custom.lineStyle"] = {"fill": "dash", "dash": [8, 6]}
        if self.fill is not None:
            values["custom.fillOpacity"] = self.fill
        if self.points:
            values["custom.drawStyle"] = "points"
            values["custom.pointSize"] = 5
        if self.unstacked:
            values["custom.stacking"] = {"mode": "none", "group": "A"}
            values["custom.lineWidth"] = 2
        if self.right_axis_unit:
            values["custom.axisPlacement"] = "right"
            values["unit"] = self.right_axis_unit
        return [models.DynamicConfigValue(id_val=key, value=value) for key, value in values.items()]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and what its series are called."""

    expr: str
    legend: str = ""
    style: Style = field(default_factory=Style)
    exemplar: bool = False


class _Panel(Protocol):
    """What the builders of the panel kinds have in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def datasource(self, datasource: common_models.DataSourceRef) -> Self: ...
    def with_target(self, target: Builder[Any]) -> Self: ...


P = TypeVar("P", bound=_Panel)


def _begin(panel: P, title: str, description: str, unit: str) -> P:
    return panel.title(title).description(description).unit(unit).datasource(DATASOURCE)


def _target(index: int, query: Query) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(chr(ord("A") + index)).expr(query.expr).datasource(DATASOURCE)
    return target.editor_mode(prometheus_models.QueryEditorMode.CODE).legend_format(query.legend or "__auto")


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> dashboard.ThresholdsConfig:
    """Colours by value: ``base`` below the first step."""
    first = models.Threshold(value=None, color=base)
    rest = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([first, *rest])


def time_series(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    colors: Mapping[str, str] | None = None,
    stacked: bool = False,
    bars: bool = False,
    smallest: float | None = 0,
    largest: float | None = None,
    line_at: float | None = None,
    legend_values: bool = False,
    size: tuple[int, int],
) -> Placed:
    """Values over time. Bars are always stacked. ``colors`` maps a series' name to its colour, ``line_at`` draws a
    dashed threshold line.

    ``legend_values`` puts the legend beside the graph as a table with the largest value.
    """
    panel = _begin(timeseries.Panel(), title, description, unit)
    legend = common.VizLegendOptions().show_legend(True)
    if legend_values:
        legend.display_mode(common_models.LegendDisplayMode.TABLE).placement(common_models.LegendPlacement.RIGHT)
        legend.calcs(["max"]).sort_by("Max").sort_desc(True)
    else:
        legend.display_mode(common_models.LegendDisplayMode.LIST).placement(common_models.LegendPlacement.BOTTOM)
    panel.legend(legend)
    panel.tooltip(
        common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
    )
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    panel.draw_style(common_models.GraphDrawStyle.BARS if bars else common_models.GraphDrawStyle.LINE)
    # A stack has no lines: that of a series at 0 would lie on top of the others.
    panel.fill_opacity(60 if bars or stacked else 0 if legend_values else 8).line_width(0 if bars or stacked else 1.5)
    panel.show_points(common_models.VisibilityMode.NEVER)
    if smallest is not None:
        panel.min(smallest)
    if unit == "short":
        # Counts that are all 0 would get an axis up to 100.
        panel.axis_soft_max(1)
    if stacked or bars:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if largest is not None:
        panel.max(largest)
    if line_at is not None:
        panel.thresholds(thresholds((line_at, RED), base="transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED))
    for index, query in enumerate(queries):
        panel.with_target(_target(index, query).range().exemplar(query.exemplar))
        if properties := query.style.properties():
            panel.override_by_query(chr(ord("A") + index), properties)
    for name, color in (colors or {}).items():
        panel.override_by_name(name, Style(color).properties())
    return Placed(panel, *size)


def single_value(
    title: str,
    description: str,
    unit: str,
    query: Query,
    limits: dashboard.ThresholdsConfig,
    *,
    names: Mapping[float, tuple[str, str]] | None = None,
    decimals: int | None = None,
    no_value: str = "-",
    size: tuple[int, int] = (4, 4),
) -> Placed:
    """One number coloured by ``limits``; ``names`` maps a value to a word and its colour."""
    panel = _begin(stat.Panel(), title, description, unit).thresholds(limits).no_value(no_value)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(
        common_models.BigValueColorMode.BACKGROUND_SOLID if names else common_models.BigValueColorMode.VALUE
    )
    panel.graph_mode(common_models.BigValueGraphMode.NONE if names else common_models.BigValueGraphMode.AREA)
    panel.with_target(_target(0, query).range())
    if decimals is not None:
        panel.decimals(decimals)
    if names:
        panel.mappings([value_names({f"{value:g}": name for value, name in names.items()})])
    return Placed(panel, *size)


def value_names(names: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    """Words (and their colours) shown instead of values."""
    return models.ValueMap(
        options={
            value: models.ValueMappingResult(text=text, color=color or None, index=index)
            for index, (value, (text, color)) in enumerate(names.items())
        }
    )


def ranking(
    title: str, description: str, unit: str, query: Query, limits: dashboard.ThresholdsConfig, *, size: tuple[int, int]
) -> Placed:
    """Bars of the values of now, largest first."""
    panel = _begin(bargauge.Panel(), title, description, unit).thresholds(limits).min(0)
    panel.orientation(common_models.VizOrientation.HORIZONTAL).display_mode(common_models.BarGaugeDisplayMode.BASIC)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.text(common.VizTextDisplayOptions().title_size(12).value_size(13))
    panel.with_target(_target(0, query).instant()).no_value("none")
    panel.sizing(common_models.BarGaugeSizing.MANUAL).min_viz_height(16).max_viz_height(36)
    return Placed(panel, *size)


def distribution(title: str, description: str, query: Query, *, size: tuple[int, int]) -> Placed:
    """Buckets of a histogram of seconds over time."""
    panel = _begin(heatmap.Panel(), title, description, "s").calculate(False).hide_legend()
    panel.y_axis(heatmap.YAxisConfig().unit("s"))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    target = _target(0, query).range().format(prometheus_models.PromQueryFormat.HEATMAP).exemplar(query.exemplar)
    return Placed(panel.with_target(target), *size)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the query that fills it, or one of the labels if there is none."""

    name: str
    expr: str = ""
    label: str = ""
    unit: str = ""
    limits: dashboard.ThresholdsConfig | None = None
    names: Mapping[str, tuple[str, str]] | None = None
    link: str = ""
    width: int | None = None
    hidden: bool = False

    def properties(self) -> list[models.DynamicConfigValue]:
        """The field overrides that draw it so."""
        values: dict[str, object] = {}
        if self.unit:
            values["unit"] = self.unit
        if self.limits is not None:
            values["thresholds"] = self.limits.build()
            values["custom.cellOptions"] = {"type": "color-text"}
        if self.names:
            values["mappings"] = [value_names(self.names)]
        if self.link:
            values["links"] = [{"title": "Open", "url": self.link}]
        if self.width is not None:
            values["custom.width"] = self.width
        return [models.DynamicConfigValue(id_val=key, value=value) for key, value in values.items()]


def values_table(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    sort_by: str,
    no_value: str = "-",
    size: tuple[int, int],
) -> Placed:
    """The values of now, one row for each combination of the label columns; the largest of ``sort_by`` first."""
    panel = _begin(table.Panel(), title, description, "short").no_value(no_value).thresholds(thresholds())
    queries = [column for column in columns if column.expr]
    renames = {column.label: column.name for column in columns if column.label}
    for index, column in enumerate(queries):
        target = _target(index, Query(column.expr)).instant().format(prometheus_models.PromQueryFormat.TABLE)
        panel.with_target(target)
        renames["Value" if len(queries) == 1 else f"Value #{chr(ord('A') + index)}"] = column.name
    hidden = {"Time": True} | {
        key: True for key, name in renames.items() if name in {c.name for c in columns if c.hidden}
    }
    order = {key: [column.name for column in columns].index(name) for key, name in renames.items()}
    (sort_key,) = (key for key, name in renames.items() if name == sort_by)
    transformations: tuple[tuple[str, dict[str, object]], ...] = (
        ("merge", {}),
        # Before the renaming, so that a table can be sorted by a column that is hidden.
        ("sortBy", {"fields": {}, "sort": [{"field": sort_key, "desc": True}]}),
        ("organize", {"renameByName": renames, "indexByName": order, "excludeByName": hidden}),
    )
    for name, settings in transformations:
        panel.with_transformation(models.DataTransformerConfig(id_val=name, options=settings))
    for column in columns:
        if properties := column.properties():
            panel.override_by_name(column.name, properties)
    return Placed(panel, *size)
