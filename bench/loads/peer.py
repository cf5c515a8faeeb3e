"""Run in a peer's own environment, ``peer.py aim|trackio FOLDER SECONDS KEYS``: points logged in process.

Each ``log`` has KEYS metrics (Aim has no call for several: one is made for each). Prints one line of JSON.
"""

import json
import os
import resource
import sys
import time

from timing import figures


def aim(folder, keys):
    """What logs one row, and what ends it, with a local Aim repository."""
    from aim import Run

    run = Run(repo=folder, system_tracking_interval=None, capture_terminal_logs=False)

    def log(step):
        for key in range(keys):
            run.track(step / 7, name=f"k{key}", step=step)

    return log, run.close


def trackio(folder, keys):
    """The same with Trackio's local database."""
    os.environ["TRACKIO_DIR"] = folder
    import trackio

    trackio.init(project="bench", name="run")

    def log(step):
        trackio.log({f"k{key}": step / 7 for key in range(keys)}, step=step)

    return log, trackio.finish


def main():
    """One measurement."""
    name, folder, seconds, keys = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    log, end = {"aim": aim, "trackio": trackio}[name](folder, keys)
    log(0)
    times, before = [], os.times()
    began = last = time.perf_counter()
    n = 0
    while last < began + seconds:
        n += 1
        log(n)
        now = time.perf_counter()
        times.append(now - last)
        last = now
    end()
    total = time.perf_counter() - began
    after = os.times()
    told = figures(times, total, sum(after[:4]) - sum(before[:4]))
    told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("\n" + json.dumps(told), flush=True)
    os._exit(0)  # some leave threads behind that wait for a web server


main()
