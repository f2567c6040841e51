"""Dashboards and rules against a real Prometheus that scrapes a real app on a real PostgreSQL."""
