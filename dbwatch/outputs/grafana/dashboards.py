"""The dashboard files."""

from dbwatch.outputs.grafana.frame import DashboardOptions, to_json
from dbwatch.outputs.grafana.overview import overview
from dbwatch.outputs.grafana.pool import pool
from dbwatch.outputs.grafana.routes import routes


def dashboard_files(options: DashboardOptions) -> dict[str, str]:
    """The dashboards by file name, as Grafana imports and provisions them."""
    built = [overview(options), pool(options), routes(options)]
    return {f"{each.uid}.json": to_json(each) for each in built}
