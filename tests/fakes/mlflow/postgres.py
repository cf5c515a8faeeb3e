"""A real PostgreSQL for tests, on a unix socket in a folder of its own: fixture ``postgres``.

``from tests.fakes.mlflow.postgres import postgres`` in a test module makes the fixture known there. Where
there is no PostgreSQL, tests that ask for it are skipped, and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

__all__ = ["PostgresServer", "postgres", "postgres_programs", "start_postgres"]

DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "pg_isready", "postgres")
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm may be small, and others fill it
    "log_min_messages": "log",  # its end among them
    "autovacuum": "off",  # its workers hold databases that are to be dropped
}

# It ends by the signal whose name is written to it, and when the test process is gone, however that went.
GUARD = """exec 3<&0; "$@" </dev/null 3<&- & read -r how <&3 || how=QUIT; kill -"$how" $!; wait $!"""


def postgres_programs() -> Path | None:
    """The folder with PostgreSQL's own programs, the newest where there are several."""
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    found = shutil.which("initdb")
    folders = versions + ([Path(found).resolve().parent] if found else [])
    return next((p for p in folders if all((p / name).is_file() for name in PROGRAMS)), None)


class PostgresServer:
    """A server of its own; ``url`` is that of its database ``postgres``, as SQLAlchemy has it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._child: subprocess.Popen[bytes] | None = None
        self.url = self.url_of("postgres")

    def url_of(self, database: str, driver: str = "+psycopg") -> str:
        """The URL of a database, for SQLAlchemy with ``driver``, or plain with an empty one."""
        return f"postgresql{driver}://postgres@/{database}?host={self.folder}"

    def create(self, database: str, template: str = "template0") -> str:
        """Make a database, as a copy of ``template``; its URL."""
        self._say(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url_of(database)

    def drop(self, database: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._say(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = [text for name, value in SETTINGS.items() for text in ("-c", f"{name}={value}")]
        server = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        command = ["sh", "-c", GUARD, "sh", *_as_user(), *server, *options]
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                command, cwd="/", stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        self._wait()

    def stop(self) -> None:
        """Shut down in good order, whoever is connected."""
        self._end("INT")

    def kill(self) -> None:
        """Make it go away at once, as a crash does; ``start`` then recovers."""
        self._end("QUIT")

    def _end(self, how: str) -> None:
        if self._child is not None:
            self._child.communicate(f"{how}\n".encode(), timeout=60)
            self._child = None

    def _say(self, statement: str) -> None:
        try:
            with psycopg.connect(self.url_of("postgres", ""), autocommit=True) as connection:
                connection.execute(statement.encode())
        except psycopg.OperationalError as wrong:
            wrong.add_note(self._state())
            raise

    def _state(self) -> str:
        """What may say why it does not answer."""
        status = self._child.poll() if self._child else "none was started"
        postmaster = self.folder / "data" / "postmaster.pid"
        running = postmaster.read_text().splitlines() if postmaster.exists() else "no postmaster.pid"
        log = (self.folder / "log").read_text()[-4000:]
        found = sorted(path.name for path in self.folder.iterdir())
        return f"guard's status: {status}; {running}; {found}; log:\n{log}"

    def _wait(self) -> None:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", str(self.folder), "-U", "postgres"]
        for _ in range(600):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log").read_text())


def _as_user() -> list[str]:
    """PostgreSQL refuses to run as root."""
    user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]
    return user if os.geteuid() == 0 else []


def start_postgres(folder: Path) -> PostgresServer:
    """Make a cluster in ``folder``, whose path is short and open to user ``postgres``, and start it."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    init = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust"]
    command = [*_as_user(), *init, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    made = subprocess.run(command, cwd="/", capture_output=True, check=False)
    if made.returncode:
        raise RuntimeError(made.stderr.decode())
    server = PostgresServer(folder, programs)
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a module."""
    with tempfile.TemporaryDirectory(prefix="tally-pg-") as folder:
        server = start_postgres(Path(folder))
        yield server
        server.kill()  # its data is thrown away: there is nothing to put in order
