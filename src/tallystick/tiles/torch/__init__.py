"""PyTorch: models of MLflow's pytorch flavor, with their gradients. In worker processes only."""
