"""Implementations of the ports, each found by its entry point and opened by ``open_tile(place)``."""
