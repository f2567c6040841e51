"""Plugins for the test suites of others."""
