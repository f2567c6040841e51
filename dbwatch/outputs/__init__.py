"""Where the numbers go: metrics, logs, pages, dashboards and rules."""
