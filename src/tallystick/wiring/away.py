"""Clusters that runs are handed to: one tile for each host that the settings allow."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from tallystick.core.errors import Refused
from tallystick.core.run.events import Run
from tallystick.core.run.options import KUBEFLOW
from tallystick.hub.house import House
from tallystick.ports.runs.cluster import Cluster
from tallystick.ports.tile import Place
from tallystick.routines.mirror import mirror
from tallystick.settings import Settings
from tallystick.wiring.tiles import open_tile

__all__ = ["Away"]

_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass
class Away:
    """Opens clusters as they are first named."""

    place: Place
    settings: Settings
    found: dict[str, Cluster] = field(default_factory=dict)

    def cluster(self, host: str) -> Cluster:
        """The cluster at ``host``; Refused for one that nobody allowed, as the hub would call any address."""
        host = host.rstrip("/")
        allowed = {one.strip().rstrip("/") for one in self.settings.kubeflow_hosts.split(",")}
        if host not in allowed and urlsplit(host).hostname not in _HERE:
            raise Refused(
                "the hub may not call it: the setting kubeflow_hosts does not name it",
                where=host[:200],
                hint=f"tally up --kubeflow-hosts {host[:200]}",
            )
        if host not in self.found:
            token = self.settings.kubeflow_token_file if host in allowed else ""
            options = {"kubeflow_host": host, "kubeflow_token_file": token}
            self.found[host] = open_tile("cluster", KUBEFLOW, replace(self.place, options=options))
        return self.found[host]

    def follow(self, house: House, run: Run) -> Coroutine[Any, Any, Run] | None:
        """What follows a run that a cluster executes; None for one that is executed here."""
        return self._followed(house, run) if run.options.on == KUBEFLOW else None

    async def _followed(self, house: House, run: Run) -> Run:
        return await mirror(house, self.cluster(run.options.host), run)

    async def close(self) -> None:
        """Let go of all connections."""
        for cluster in self.found.values():
            await cluster.close()
