"""The tracking tile: MLflow's record in a database, on the schema that MLflow's own migrations make."""
