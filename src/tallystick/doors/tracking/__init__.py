"""The hot routes of MLflow's API, answered from the record itself."""
