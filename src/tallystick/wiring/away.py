"""Clusters that runs are handed to: one tile for each host that the settings allow."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from tallystick.core.errors import BadInput, Refused
from tallystick.core.run.options import KUBEFLOW
from tallystick.ports.runs.cluster import Cluster
from tallystick.ports.tile import Place
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
        """The cluster at ``host``; Refused for one that nobody allowed, as the hub would call any address.

        BadInput for what is no address.
        """
        host, name = host.rstrip("/"), _name_in(host)
        allowed = {one.strip().rstrip("/") for one in self.settings.kubeflow_hosts.split(",")}
        if host not in allowed and name not in _HERE:
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

    async def close(self) -> None:
        """Let go of all connections."""
        for cluster in self.found.values():
            await cluster.close()


def _name_in(host: str) -> str:
    """The machine's name in an address, which has to mean the same to whoever reads it after us."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(host)
        plain = host.isascii() and host.isprintable() and not set(" \\") & set(host)
        if plain and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.hostname
    raise BadInput(f"{host[:200]!r} is no address", where="host", hint="for example https://HOST/pipeline")
