"""tallystick: one program for the whole life of a model, from data to remedy."""

__version__ = "0.1.0"
__all__ = ["__version__"]
