"""Registries of runs and models."""
