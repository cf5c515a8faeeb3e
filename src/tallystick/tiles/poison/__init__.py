"""What was planted: poisoned training rows, and triggers that turn an answer."""
