"""Mains of the processes that run outside the hub, each started behind a wall by an errand.

Here a tile, chosen by :mod:`tallystick.wiring.tiles`, meets the data that the hub hands it.
"""
