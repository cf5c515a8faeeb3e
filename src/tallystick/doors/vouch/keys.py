"""Keys at the command line: whose a check trusts, and the commands ``tally trust ...``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from tallystick.core.errors import NotFound, Refused, Unavailable
from tallystick.core.facts import to_json
from tallystick.doors.vouch.identities import identities_in, identity_command, no_longer
from tallystick.ports.models.signing import Signing
from tallystick.terminal.client import given_url, hub_of, path_part
from tallystick.terminal.context import Tally, check_file, common
from tallystick.terminal.show import ago, short

__all__ = ["OpenSigning", "keys_for", "read_key", "trust_command"]

KEY_BYTES_MAX = 64 * 1024
KEYS = "keys"
"""The folder of a home that its keys are in."""


class OpenSigning(Protocol):
    """Opens the signing tile: of a home, or of keys that were handed over."""

    def __call__(
        self, home: Path, trusted: Sequence[tuple[str, str]] | None = None, private: str = ""
    ) -> Signing:
        """``trusted`` (name and PEM) or ``private`` (PEM) take the home's place."""
        ...


def read_key(file: Path) -> str:
    """A PEM file's text."""
    try:
        with check_file(file).open("rb") as source:
            return source.read(KEY_BYTES_MAX).decode("ascii", "replace")
    except OSError as wrong:
        raise Unavailable(f"cannot be read: {wrong.strerror}", where=str(file)) from wrong


def keys_for(tally: Tally, keys: Sequence[Path], open_signing: OpenSigning) -> Signing:
    """Those of ``keys`` alone, or where none is named those of the home; Refused where there are none.

    Nothing is made: a machine without a home stays one.
    """
    if keys:
        return open_signing(Path(tally.home), [(file.name, read_key(file)) for file in keys])
    if not (Path(tally.home) / KEYS).is_dir():
        hint = "--key FILE, with the public key that its maker gave you (tally trust show)"
        raise Refused("no key is trusted here", where=tally.home, hint=hint)
    return open_signing(Path(tally.home))


def trust_command(open_signing: OpenSigning) -> click.Command:
    """``tally trust add|list|remove|show``."""

    @click.group()
    def trust() -> None:
        """Whose signatures count here: add, list and remove public keys, or show this hub's own."""

    trust.add_command(_add(open_signing))
    trust.add_command(_list(open_signing))
    trust.add_command(_remove(open_signing))
    trust.add_command(_show(open_signing))
    trust.add_command(identity_command())
    return trust


def _here(tally: Tally, open_signing: OpenSigning) -> Signing | None:
    """The home's keys where no hub has to be asked; None where one is to be."""
    if tally.found or given_url(tally.url) or hub_of(Path(tally.home)):
        return None
    return open_signing(Path(tally.home))


def _add(open_signing: OpenSigning) -> click.Command:
    @click.command(name="add")
    @click.argument("name")
    @click.argument("file", type=click.Path(path_type=Path))
    @common
    @click.pass_obj
    def add(tally: Tally, name: str, file: Path) -> None:
        """Trust the public key in FILE (PEM: Ed25519, or ECDSA on a NIST curve) under NAME.

        Make sure first whose it is: what it signs may be loaded here.
        """
        pem, here = read_key(file), _here(tally, open_signing)
        now = time.time_ns() // 1_000_000
        key = to_json(here.trust(name, pem, now)) if here else tally.hub.post("/keys", name=name, pem=pem)
        tally.screen.result(key, f"{key['name']} is trusted: {key['kind']} key {key['id']}")

    return add


def _remove(open_signing: OpenSigning) -> click.Command:
    @click.command(name="remove")
    @click.argument("name")
    @common
    @click.pass_obj
    def remove(tally: Tally, name: str) -> None:
        """Trust NAME no longer; what it signed before counts no more either."""
        was_an_identity = no_longer(Path(tally.home), name)
        try:  # a key may have the same name: nobody of it is trusted after this
            if here := _here(tally, open_signing):
                here.distrust(name)
            else:
                tally.hub.post(f"/keys/{path_part(name)}/remove")
        except NotFound:
            if not was_an_identity:
                raise
        tally.screen.result({"name": name}, f"{name} is trusted no longer")

    return remove


def _list(open_signing: OpenSigning) -> click.Command:
    @click.command(name="list")
    @common
    @click.pass_obj
    def show_all(tally: Tally) -> None:
        """The hub's own keys, then those that it trusts."""
        keys = _keys(tally, open_signing)
        rows = [[k["name"], k["kind"], short(k["id"]), _since(k)] for k in keys]
        known = [{"name": i.name, "kind": "identity", "id": i.who, "issuer": i.issuer}
                 for i in identities_in(Path(tally.home))]  # fmt: skip
        rows += [[i["name"], i["kind"], i["id"], f"as {i['issuer']} says"] for i in known]
        tally.screen.table([*keys, *known], ("key", "kind", "id", ""), rows, "there is no key yet")

    return show_all


def _show(open_signing: OpenSigning) -> click.Command:
    @click.command(name="show")
    @click.argument("name", default="")
    @click.option("--models", is_flag=True, help="The one that signs model.sig, for stock model_signing.")
    @common
    @click.pass_obj
    def show(tally: Tally, name: str, models: bool) -> None:
        """Print a public key as PEM, this hub's own where no NAME is given: to hand to others."""
        keys = _keys(tally, open_signing)
        own = [k for k in keys if k["own"]][1 if models else 0 :]
        found = next((k for k in keys if k["name"] == name), None) if name else next(iter(own), None)
        if found is None:
            raise NotFound(f"no key {name!r}", where="keys", hint="tally trust list")
        tally.screen.result(found, found["pem"].rstrip())

    return show


def _keys(tally: Tally, open_signing: OpenSigning) -> Sequence[Mapping[str, Any]]:
    here = _here(tally, open_signing)
    found: Sequence[Mapping[str, Any]] = to_json(here.keys()) if here else tally.hub.get("/keys")
    return found


def _since(key: Mapping[str, Any]) -> str:
    if key["own"]:
        return "own"
    return f"trusted since {ago(key['trusted_ms'])}" if key["trusted_ms"] else "trusted"
