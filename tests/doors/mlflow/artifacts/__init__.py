"""Tests of the native routes for artifacts."""
