"""Executors: ``local`` runs each step in a fresh process on this machine."""
