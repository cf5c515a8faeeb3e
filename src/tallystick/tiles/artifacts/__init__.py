"""Artifact tiles: where files and folders are kept by their digest."""
