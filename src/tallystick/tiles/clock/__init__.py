"""Clock tiles: where time comes from."""
