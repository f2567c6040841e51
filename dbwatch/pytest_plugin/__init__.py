"""The pytest plugin: mistakes fail the test during which they are made. ``pytest_dbwatch`` loads it when asked for."""
