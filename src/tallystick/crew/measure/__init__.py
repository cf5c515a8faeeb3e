"""What the errands ``judge`` and ``observe`` measure with: columns, models from outside, drift, pictures."""
