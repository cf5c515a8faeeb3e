"""Executor ``ray``: steps on the machines of a Ray cluster, each run there by the executor of one machine."""
