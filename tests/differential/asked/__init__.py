"""What is asked of the two servers."""
