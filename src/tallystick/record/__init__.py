"""MLflow's record as nouns: what can be asked of it, what stands in it, and the language of its searches."""
