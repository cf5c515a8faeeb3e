"""Kubeflow Pipelines as a cluster."""
