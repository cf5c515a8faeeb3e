"""Tuners: how the parameters of trials are chosen."""
