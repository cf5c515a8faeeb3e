"""Files tiles: artifacts by path, on this machine's disk or in an object store."""
