"""Addresses that alerts and dashboards point to."""

#: Where the runbooks are read; each alert's page is its name with ``.md``.
RUNBOOKS_URL = "https://github.com/dbwatch/dbwatch/blob/main/docs/runbooks"
#: Where Grafana is reached; alerts link to its dashboards.
GRAFANA_URL = "http://localhost:3000"

OVERVIEW_UID = "dbwatch-overview"
POOL_UID = "dbwatch-pool"
ROUTES_UID = "dbwatch-routes"


def runbook_url(alert: str, base: str = RUNBOOKS_URL) -> str:
    """The address of an alert's runbook."""
    return f"{base.rstrip('/')}/{alert}.md"
