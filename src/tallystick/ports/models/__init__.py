"""What is asked of the world about models alone: to run, attack, look at and sign for them."""
