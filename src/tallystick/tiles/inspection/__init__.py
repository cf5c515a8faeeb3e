"""Inspection: what a model's files are, found out by their content and without loading any of them."""
