"""Fixtures that several test modules share."""

pytest_plugins = ("databases", "services", "packs", "conformance_run")
