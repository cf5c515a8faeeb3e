"""Environments: ``uv`` resolves and builds what components ask for, off the hub's own environment."""
