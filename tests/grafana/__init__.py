"""Dashboards, rules and what surrounds them."""
