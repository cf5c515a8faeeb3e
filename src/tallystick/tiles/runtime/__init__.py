"""Runtimes: ways to load a model's files. They run in worker processes, never in the hub's own."""
