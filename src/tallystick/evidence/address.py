"""Where a model answers over HTTP, as a person names it, and addresses that nothing is ever asked at.

An address that anybody may name is a way to have the hub's machine ask where the asker cannot (server-side
request forgery, CWE-918). Models are rightly asked on this machine, on a network of one's own and beyond;
never where clouds hand out credentials of the machine, and never what is no single host's.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tallystick.core.errors import BadInput

__all__ = ["MODELS", "ModelAddress", "check_asked"]

MODELS = "/v2/models/"
CHARS_MAX = 2000
_EXAMPLE = "for example http://127.0.0.1:8000/v2/models/digits"
_NEVER = (
    ("169.254.0.0/16", "link-local, where clouds keep the machine's credentials"),
    ("fe80::/10", "link-local"),
    ("100.100.100.200/32", "the metadata service of a cloud"),
    ("168.63.129.16/32", "the metadata service of a cloud"),
    ("192.0.0.192/32", "the metadata service of a cloud"),
    ("fd00:ec2::/32", "the metadata service of a cloud"),
    ("fd20:ce::/32", "the metadata service of a cloud"),
    ("0.0.0.0/8", "no host's"),
    ("::/128", "no host's"),
    ("224.0.0.0/4", "many hosts'"),
    ("ff00::/8", "many hosts'"),
    ("240.0.0.0/4", "reserved"),
)
_NETWORKS = tuple((ipaddress.ip_network(net), why) for net, why in _NEVER)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """``scheme://host:port/path``; ``path`` ends with ``/v2/models/NAME``, maybe with a version."""

    scheme: str
    host: str
    port: int | None
    path: str

    @classmethod
    def parse(cls, text: str) -> ModelAddress:
        """BadInput for what is no address of a model, or one that is never asked (as far as it says that)."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as wrong:
            raise _no_address(text, f": {wrong}") from None
        path = parts.path.rstrip("/").removesuffix("/infer")
        plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= CHARS_MAX
        if not plain or parts.scheme not in ("http", "https") or not host or not path.partition(MODELS)[2]:
            raise _no_address(text)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise BadInput("an endpoint's address is host, port and path alone", where="endpoint")
        if port == 0:
            raise _no_address(text, ": nothing answers at port 0")
        found = cls(parts.scheme, host, port, path)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return found  # a name: what it stands for is looked at when it is asked
        check_asked(host)
        return found

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{f':{self.port}' if self.port else ''}{self.path}"


def check_asked(address: str) -> None:
    """BadInput for an address (of either IP version, or with the one in the other) that is never asked."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        inner = inner or (ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else None)
        if inner:
            check_asked(str(inner))
    for network, why in _NETWORKS:
        if found.version == network.version and found in network:
            raise BadInput(f"{found} is never asked: it is {why}", where="endpoint")


def _no_address(text: str, why: str = "") -> BadInput:
    return BadInput(f"{text[:200]!r} is no address of a model{why}", where="endpoint", hint=_EXAMPLE)
