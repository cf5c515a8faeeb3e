"""Every read of the tracking tiles, beside what MLflow's own store answers on the same database."""
