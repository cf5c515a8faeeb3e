"""The command line: each command asks a running hub over HTTP and shows what came of it."""
