"""Sandboxes: ``process`` (limits only) and ``bubblewrap`` (namespaces), both under a warden."""
