"""Tests of the tile that runs the steps of pipelines on a Ray cluster."""
