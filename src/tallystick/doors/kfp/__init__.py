"""Kubeflow Pipelines at the door: compiled pipelines are read here, and its run API is spoken."""
