"""Conditions tiles: what decides whether an expression holds."""
