"""Attack tiles: what a model withstands. They run in worker processes, never in the hub's own."""
