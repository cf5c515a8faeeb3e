"""Attend to the errand ``vouch``."""

from __future__ import annotations

from tallystick.crew.desk import attend
from tallystick.crew.vouch import main

if __name__ == "__main__":
    attend(main)
