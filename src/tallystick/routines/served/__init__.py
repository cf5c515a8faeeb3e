"""What keeps models as they should be while they serve: settle, observe, heal."""
