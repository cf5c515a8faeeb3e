"""Tests against heavy neighbours, each with a target of its own."""
