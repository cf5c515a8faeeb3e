"""The tile ``dsse``: envelopes signed with keys that lie in the home."""
