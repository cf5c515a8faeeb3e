"""Kubeflow Pipelines' API (v2beta1), so that the stock ``kfp.Client`` can work with this hub."""
