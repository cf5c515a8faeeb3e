"""The same desk as the other commands have."""

from tests.doors.cli.conftest import desk, nobody_elses_settings

__all__ = ["desk", "nobody_elses_settings"]
