"""Fixtures that several test modules share."""

pytest_plugins = ("databases", "services", "conformance_run")
