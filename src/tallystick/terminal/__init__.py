"""The terminal: how commands reach a hub, and how they show what it says."""
