"""What the hub asks of the world: one small Protocol a file, each with a proof in ``tallystick.proofs``."""
