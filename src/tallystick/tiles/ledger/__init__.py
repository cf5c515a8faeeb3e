"""Ledger tiles: where facts are kept."""
