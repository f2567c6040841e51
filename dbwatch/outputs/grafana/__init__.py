"""Dashboards, alert rules and recording rules as code, generated from the catalogue."""
