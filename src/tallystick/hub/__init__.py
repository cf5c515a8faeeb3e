"""The verbs, one a file, and the house that they work in. No verb imports another."""
