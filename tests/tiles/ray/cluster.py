"""A Ray cluster of several nodes on this machine, in a process that is told by lines what to do.

``python cluster.py``: it prints its address for each ``add NAME CPUS GPUS`` and ``kill NAME``, until ``end``.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

STORE_BYTES = 100 * 1024 * 1024
SOON = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
"""When a dead node is seen to be dead; half a minute is the default."""


def main() -> None:
    cluster = Cluster()
    nodes = {}
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "add":
            name, cpus, gpus = rest
            nodes[name] = cluster.add_node(
                node_name=name,
                num_cpus=int(cpus),
                num_gpus=int(gpus),  # Ray takes our word for it
                object_store_memory=STORE_BYTES,
                node_ip_address="127.0.0.1",
                include_dashboard=False,
                **({} if nodes else {"_system_config": SOON}),
            )
        elif word == "kill":
            cluster.remove_node(nodes.pop(rest[0]), allow_graceful=False)
        else:
            break
        print(cluster.address, flush=True)  # noqa: T201  it is the answer
    cluster.shutdown()


if __name__ == "__main__":
    main()
