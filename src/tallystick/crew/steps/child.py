"""The step itself, in the process that was forked for it: nothing of the zygote's or of another step's."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from tallystick.crew import step

__all__ = ["run_step"]


def run_step(order: dict[str, Any], env: Mapping[str, str]) -> NoReturn:
    """Run the step's order with ``env`` as its whole environment, and end as Python would."""
    status = 1
    try:
        _begin(env)
        status = step.run(order)
        _finish()
    except BaseException:  # noqa: BLE001  a forked half must never run on into its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _begin(env: Mapping[str, str]) -> None:
    gc.enable()
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    tempfile.tempdir = None
    sys.argv[:] = [step.__file__]
    if numbers := sys.modules.get("numpy.random"):
        numbers.seed()  # `random` does it by itself after a fork, and OpenSSL too


def _finish() -> None:
    """What Python does as it ends, but for taking every module apart, which touches all memory."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing has it
    with contextlib.suppress(SystemExit):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
