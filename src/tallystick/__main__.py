"""``python -m tallystick`` is ``tally``."""

from tallystick.wiring.main import main

main()
