"""What every tracking tile must do: ``whole`` is all of it."""
