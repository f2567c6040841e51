"""What the dashboards share: variables, links between them and to the runbooks, annotations, JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dbwatch.outputs.grafana.layout import Section, arrange
from dbwatch.outputs.grafana.links import RUNBOOKS_URL
from dbwatch.outputs.grafana.panels import DATASOURCE
from dbwatch.outputs.grafana.promql import Selectors, sum_by

TAG = "dbwatch"
#: Names of the alerts in rules.py, as a regular expression.
ALERT_NAMES = "DB(Pool|Watch).+"

_VARIABLES = ('job=~"$job"', 'instance=~"$instance"', 'pool=~"$pool"')
#: Selectors of the overview and the pool dashboard, and of the routes dashboard.
selected = Selectors(_VARIABLES)
selected_routes = Selectors((*_VARIABLES, 'route=~"$route"'))


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """What differs between installations: the uid of the Prometheus data source to start with, where runbooks are."""

    datasource_uid: str = ""
    runbooks_url: str = RUNBOOKS_URL


def build(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    options: DashboardOptions,
    *,
    by_route: bool = False,
) -> models.Dashboard:
    """A dashboard of these sections with the shared frame."""
    frame = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).editable()
    frame.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    frame.variables(_variables(options.datasource_uid, by_route=by_route))
    frame.links(_links(options.runbooks_url))
    frame.annotations([_process_starts(), _firing_alerts()])
    built = frame.build()
    built.panels = arrange(sections)
    return built


def to_json(built: models.Dashboard) -> str:
    """The dashboard as Grafana imports it, in an order that makes small changes small differences."""
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _variables(datasource_uid: str, *, by_route: bool) -> list[Builder[models.VariableModel]]:
    datasource = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    if datasource_uid:
        datasource.current(models.VariableOption(selected=True, text=datasource_uid, value=datasource_uid))
    size = Selectors()
    within_job = Selectors(_VARIABLES[:1])
    queries = [
        _choice("job", "Job", size("dbwatch_pool_size")),
        _choice("instance", "Instance", within_job("dbwatch_pool_size")),
        _choice("pool", "Pool", Selectors(_VARIABLES[:2])("dbwatch_pool_size")),
    ]
    if by_route:
        queries.append(_choice("route", "Route", Selectors(_VARIABLES[:2])("dbwatch_request_checkouts_total")))
    return [datasource, *queries]


def _choice(label: str, shown: str, series: str) -> dashboard.QueryVariable:
    everything = models.VariableOption(selected=True, text="All", value="$__all")
    query = f"label_values({series}, {label})"
    choice = dashboard.QueryVariable(label).label(shown).datasource(DATASOURCE).definition(query)
    choice.query({"query": query, "refId": f"variable-{label}", "qryType": 1, "label": label, "metric": series})
    choice.multi(True).include_all(True).all_value(".+").current(everything)
    return choice.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)


def _links(runbooks_url: str) -> list[Builder[models.DashboardLink]]:
    between = dashboard.DashboardLink("dbwatch").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    between.as_dropdown(False).include_vars(True).keep_time(True).icon("dashboard")
    runbooks = dashboard.DashboardLink("Runbooks").type(models.DashboardLinkType.LINK).url(runbooks_url)
    runbooks.icon("doc").tooltip("What each alert means and what to do").target_blank(True)
    return [between, runbooks]


def _process_starts() -> dashboard.AnnotationQuery:
    checkouts = Selectors(_VARIABLES[:2])("dbwatch_checkout_seconds_count")
    build_info = Selectors(_VARIABLES[:2])("dbwatch_build_info")
    started = sum_by(("job", "instance"), f"resets({checkouts}[2m])") + " > 0"
    appeared = f"{build_info} unless on (job, instance) {build_info} offset 2m"
    annotation = dashboard.AnnotationQuery().name("Process starts").datasource(DATASOURCE).enable(True)
    annotation.icon_color("blue").expr(f"{started} or on (job, instance) ({appeared})").step("30s")
    return annotation.title_format("Process started").text_format("{{job}} on {{instance}}").tag_keys("job,instance")


def _firing_alerts() -> dashboard.AnnotationQuery:
    firing = f'ALERTS{{alertname=~"{ALERT_NAMES}",alertstate="firing",severity!="info",job=~"$job|",pool=~"$pool|"}}'
    annotation = dashboard.AnnotationQuery().name("Firing alerts").datasource(DATASOURCE).enable(True)
    annotation.icon_color("red").expr(firing).step("30s").title_format("{{alertname}}")
    return annotation.text_format("{{severity}}: {{job}} {{instance}} {{pool}}").tag_keys("severity,pool")
