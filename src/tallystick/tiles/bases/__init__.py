"""Bases: what a component runs on, beside the hub or in an environment of its own."""
