"""The console: the whole record as pages, each of them a URL, and the same as JSON under ``.json``."""

from tallystick.doors.console.routes import console_missing, console_routes
from tallystick.doors.console.view import View

__all__ = ["View", "console_missing", "console_routes"]
