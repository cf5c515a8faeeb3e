"""Ports that only runs of pipelines use: their journals, and what decides their conditions."""
