"""Identities: who signed, where no key says so. Sigstore says that somebody was logged in as WHO at ISSUER.

Those that are trusted lie in ``keys/identities/NAME.json`` of a home, and count for `tally verify` there. The
hub's gate knows keys alone: an identity opens nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tallystick.core.errors import BadInput, Conflict, TallyError
from tallystick.core.names import check_name
from tallystick.terminal.context import Tally, common

__all__ = ["Identity", "identities_in", "identity_command", "no_longer", "one_identity"]

_ISSUER = re.compile(r"https://[A-Za-z0-9.\-]+(:[0-9]+)?(/[!-~]*)?")
_WHO_CHARS_MAX = 1000
_FILE_BYTES_MAX = 16 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """``who`` (a mail address, or the address of a workflow) as ``issuer`` (of OpenID Connect) knows them."""

    who: str
    issuer: str
    name: str = ""

    def __post_init__(self) -> None:
        if not self.who.strip() or len(self.who) > _WHO_CHARS_MAX or not self.who.isprintable():
            raise BadInput("an identity is a mail address or the address of a workflow", where="identity")
        if not _ISSUER.fullmatch(self.issuer):
            hint = "https://accounts.google.com, or https://token.actions.githubusercontent.com"
            raise BadInput(f"{self.issuer[:200]!r} is no issuer", where="--issuer", hint=hint)


def one_identity(who: str, issuer: str) -> tuple[Identity, ...]:
    """The one that a command names; BadInput where it says half of it: either alone would be anybody's."""
    if not who and not issuer:
        return ()
    if not who or not issuer:
        raise BadInput(
            "an identity counts only with its issuer", where="--identity", hint="say --issuer URL too"
        )
    return (Identity(who, issuer),)


def identities_in(home: Path) -> Sequence[Identity]:
    """Those that are trusted here, by name; one that cannot be read is none."""
    found = []
    for file in sorted((home / "keys" / "identities").glob("*.json")):
        try:
            with file.open("rb") as source:
                said = json.loads(source.read(_FILE_BYTES_MAX))
            found.append(Identity(said["who"], said["issuer"], file.stem))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, TallyError):
            continue
    return found


def no_longer(home: Path, name: str) -> bool:
    """Trust an identity no longer; False where there is none of that name."""
    file = home / "keys" / "identities" / f"{check_name('identity', name)}.json"
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


def _keep(home: Path, identity: Identity) -> None:
    folder = home / "keys" / "identities"
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps({"who": identity.who, "issuer": identity.issuer})
    try:
        opened = os.open(folder / f"{identity.name}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(
            "the name has another identity", where=identity.name, hint="tally trust list"
        ) from None
    with os.fdopen(opened, "w") as file:
        file.write(text)


def identity_command() -> click.Command:
    """``tally trust identity NAME WHO --issuer URL``."""

    @click.command(name="identity")
    @click.argument("name")
    @click.argument("who")
    @click.option("--issuer", required=True, metavar="URL", help="Who vouches that it is them.")
    @common
    @click.pass_obj
    def add(tally: Tally, name: str, who: str, issuer: str) -> None:
        """Trust what WHO signs with Sigstore under NAME, for `tally verify` with this --home.

        WHO is a mail address, or the address of a workflow in a CI; ISSUER is who logged them in.
        """
        found = Identity(who, issuer, check_name("identity", name))
        _keep(Path(tally.home), found)
        words = f"{name} is trusted: {who}, as {issuer} says"
        tally.screen.result({"name": name, "identity": who, "issuer": issuer}, words)

    return add
