"""Runs: one execution of a pipeline, as a state machine: events in, decisions out."""
