"""Bringing an old file store of MLflow's (``./mlruns``) into a database: reading, artifacts, and joining."""
