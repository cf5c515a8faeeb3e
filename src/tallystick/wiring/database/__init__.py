"""MLflow's database: which one it is, that no other hub has it, and that its schema is the one needed."""
