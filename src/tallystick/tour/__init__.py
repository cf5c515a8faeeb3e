"""The tour: `tally demo`, the whole life of one real model through the hub's own doors."""
