"""Proofs of the ports that only runs of pipelines use."""
