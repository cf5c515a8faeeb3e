"""Traffic tiles: where exchanges with endpoints are recorded."""
