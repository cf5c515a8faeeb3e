"""Tests of the tiles that keep artifacts by path."""
