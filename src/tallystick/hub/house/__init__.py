"""What all verbs work with: the house and its parts, errands, rows, and who answers for which endpoint."""

from tallystick.hub.house.parts import House, Limits

__all__ = ["House", "Limits"]
