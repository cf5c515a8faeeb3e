"""What runs as the author of a pipeline, in a terminal: compiling it, debugging a step."""
