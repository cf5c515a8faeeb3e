"""What MLflow's own server, as the hub runs it, may and may not do."""
