"""Pipelines: what a person hands in, read and checked before anything runs."""
