"""Corruptions: inputs spoilt as the world spoils them, by nobody's intent; five severities each."""
