"""Tests of dbwatch, run against real servers."""
