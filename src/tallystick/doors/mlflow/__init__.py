"""The MLflow door: MLflow's own server, reached through the hub."""
