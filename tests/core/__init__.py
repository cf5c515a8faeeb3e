"""Tests of the core: pure, seeded, quick."""
