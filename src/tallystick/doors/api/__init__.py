"""The hub's own JSON API under /api/tally: what the command line and scripts use."""
