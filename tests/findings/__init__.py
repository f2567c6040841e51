"""Findings: the mistakes of the design, each made and mended in a small app on a real server."""
