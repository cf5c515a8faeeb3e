"""The only place that chooses tiles and puts the house together."""
