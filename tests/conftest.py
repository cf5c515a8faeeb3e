"""What holds for every test, whoever runs them."""

from __future__ import annotations

import signal

# What a script has put in the background inherits that Ctrl-C is ignored, and hands it on to what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
