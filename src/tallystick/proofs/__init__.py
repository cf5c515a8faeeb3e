"""What every tile of a port must pass, the fakes of our own tests included: one file a port."""
