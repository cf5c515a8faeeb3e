"""Hostile model files that the tests build themselves: each leaves a mark where it is loaded naively."""
