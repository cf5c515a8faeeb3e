"""Tests of the tile that says what components run on."""
