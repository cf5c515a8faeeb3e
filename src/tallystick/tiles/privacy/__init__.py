"""What a model gives away: whether a row was trained on, a column that should stay hidden, itself."""
