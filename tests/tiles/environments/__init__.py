"""Environments: a package index on the loopback address, and what is made of what it has."""
