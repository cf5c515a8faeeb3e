"""A whole copy of MLflow's database, made and checked before its schema is migrated."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tallystick.core.errors import Failed, MissingTile, NotSupported, TallyError, Unavailable
from tallystick.record.address import apart, cleaned
from tallystick.wiring.database.address import Address
from tallystick.wiring.database.schema import TIMEOUT_S, server_version

__all__ = ["back_up", "check_can_back_up", "how_to_restore", "place_of_backup"]

PAGES_AT_ONCE = 10_000
_INSTALL = (
    "apt-get install postgresql-client, or back it up yourself and migrate it with: mlflow db upgrade URL"
)


def place_of_backup(address: Address, home: Path, stamp: str) -> Path:
    """Where the copy will be: beside the file, or in the home for a server's; never one that is there."""
    if address.file:
        wanted = address.file.with_name(f"{address.file.name}.before-tally-{stamp}")
    else:
        name = re.sub(r"\W", "-", unquote(urlsplit(address.url).path[1:]) or "database")[:60]
        wanted = home / "backups" / f"{name}.before-tally-{stamp}.dump"
    place, number = wanted, 1
    while place.exists():
        number += 1
        place = wanted.with_name(f"{wanted.name}-{number}")
    return place


def check_can_back_up(address: Address) -> None:
    """MissingTile, before anybody is asked, where PostgreSQL's tool is missing or older than the server."""
    if address.file:
        return
    tool = shutil.which("pg_dump")
    if tool is None:
        raise MissingTile(
            "pg_dump is needed for a backup and is not installed", where="backup", hint=_INSTALL
        )
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)(?:\.\d+)*", said)
    ours, theirs = int(found[1]) if found else 0, server_version(address)
    if ours < theirs:
        raise MissingTile(
            f"pg_dump is of PostgreSQL {ours}, and the server is {theirs}: it refuses newer servers",
            where=tool,
            hint=_INSTALL.replace("postgresql-client", f"postgresql-client-{theirs}"),
        )


def back_up(address: Address, place: Path) -> None:
    """Copy the whole database to ``place``, which is not there yet, readable by its owner only.

    Unavailable when there is no room or somebody else holds the database, Failed when the copy is not whole;
    then none is left.
    """
    part = place.with_name(f"{place.name}.part")  # what has its final name is whole
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if address.file:
            _copy(address.file, part)
        else:
            _dump(address, part)
        part.rename(place)
    except (OSError, sqlite3.Error) as wrong:
        part.unlink(missing_ok=True)
        why = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        hint = "free some space, or stop what else uses the database, then try again"
        raise Unavailable(f"the backup cannot be made: {why}", where=str(place), hint=hint) from wrong
    except TallyError:
        part.unlink(missing_ok=True)
        raise


def _copy(file: Path, place: Path) -> None:
    """By SQLite's own means, which see what is still in the write-ahead log; meanwhile nobody else writes."""
    with (
        contextlib.closing(sqlite3.connect(file, timeout=TIMEOUT_S, isolation_level=None)) as guard,
        contextlib.closing(sqlite3.connect(file, timeout=TIMEOUT_S)) as source,
        contextlib.closing(sqlite3.connect(place)) as copy,
    ):
        guard.execute("begin immediate")
        source.backup(copy, pages=PAGES_AT_ONCE)
        found = [str(row[0]) for row in copy.execute("pragma integrity_check(3)")]
        if found != ["ok"]:
            raise Failed(f"the copy is not whole: {'; '.join(found)[:300]}", where=str(place))
        copy.execute("pragma journal_mode = delete")  # one file, that is whole by itself
    with place.open("rb") as written:
        os.fsync(written.fileno())


def _dump(address: Address, place: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        url, env = _told_apart(address, Path(folder))
        command = ["pg_dump", "--format=custom", "--no-password", f"--file={place}", f"--dbname={url}"]
        _run(command, env, place, address)
        listing = ["pg_restore", "--list", f"--file={os.devnull}", str(place)]  # its contents can be read
        _run(listing, env, place, address)


def _run(command: list[str], env: dict[str, str], place: Path, address: Address) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        why = " ".join(cleaned(done.stderr, address.url).split())[:500] or f"status {done.returncode}"
        raise Failed(f"{command[0]} could not make the backup: {why}", where=str(place))


def _told_apart(address: Address, folder: Path) -> tuple[str, dict[str, str]]:
    """The URL for a command line, which is everybody's to read, and the environment, which is not.

    Only the password has a variable of its own; what else is secret stands in a service file in ``folder``.
    """
    url, found = apart(address.url)
    secrets, env = dict(found), dict(os.environ)
    if password := secrets.pop("password", ""):
        env["PGPASSWORD"] = password
    if not secrets:
        return url, env
    if re.search(r"[?&]service=", url):
        hint = f"write {' and '.join(secrets)} into the file of that service"
        raise NotSupported(
            "a secret beside a service cannot be told to pg_dump", where=str(address), hint=hint
        )
    file = folder / "service.conf"
    file.touch(mode=0o600)
    file.write_text(
        "".join(["[tally]\n", *(f"{name}={value}\n" for name, value in secrets.items())]), "utf-8"
    )
    env["PGSERVICEFILE"] = str(file)
    return f"{url}{'&' if '?' in url else '?'}service=tally", env


def how_to_restore(address: Address, place: Path) -> str:
    """The command that brings a backup back."""
    if address.file:
        file = address.file
        return f"rm -f {file}-wal {file}-shm && cp {place} {file}"
    return f"pg_restore --clean --if-exists --dbname={apart(address.url)[0]} {place}"
