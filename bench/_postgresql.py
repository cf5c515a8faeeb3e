"""A PostgreSQL of our own for the benchmark, with its default settings, on a unix socket in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from _databases import COLUMNS, Size, make_schema, rows


def find_bin() -> Path | None:
    """The newest PostgreSQL on this machine."""
    there = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    on_path = shutil.which("initdb")
    return there[-1] if there else Path(on_path).parent if on_path else None


class Postgresql:
    """A cluster; a template database for each size, and copies of it by CREATE DATABASE ... TEMPLATE.

    PostgreSQL gathers statistics by itself (autovacuum), so its templates are analysed, always.
    """

    kind = "PostgreSQL"

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.made = folder, 0
        folder.mkdir(mode=0o755)
        self.user = "postgres" if os.geteuid() == 0 else ""
        if self.user:
            shutil.chown(folder, self.user)
        data = folder / "data"
        self._as_user(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
        command = [str(binaries / "postgres"), "-D", str(data), *options]
        log = (folder / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user or None, cwd=folder)
        for _ in range(600):
            if (folder / ".s.PGSQL.5432").exists() and self._answers():
                return
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not start: " + (folder / "log").read_text()[-1000:])

    def _as_user(self, *command: Any) -> None:
        words = [str(word) for word in command]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, user=self.user or None, cwd=self.folder)

    def _answers(self) -> bool:
        import psycopg

        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def url(self, name: str) -> str:
        """As SQLAlchemy has it."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def connect(self, name: str) -> Any:
        """A connection that commits each statement."""
        import psycopg

        return psycopg.connect(f"user=postgres host={self.folder} dbname={name}", autocommit=True)

    def run(self, sql: str, database: str = "postgres") -> int:
        """Run a statement; the first number of its first row, if it has one."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql)
            row = cursor.fetchone() if cursor.description else None
            return int(row[0]) if row and isinstance(row[0], int) else 0

    def copy(self, size: Size, analysed: bool) -> str:
        """The URL of a new database; ``analysed`` it is anyhow."""
        template = f"template_{size.runs}_{size.points}"
        with self.connect("postgres") as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (template,)).fetchone()
        if not found:
            self._fill(template, size)
        self.made += 1
        self.run(f"CREATE DATABASE copy_{self.made} TEMPLATE {template}")
        self.run("CHECKPOINT")
        return self.url(f"copy_{self.made}")

    def _fill(self, template: str, size: Size) -> None:
        began, part = time.monotonic(), "part"
        self.run(f"DROP DATABASE IF EXISTS {part}")
        self.run(f"CREATE DATABASE {part}")
        make_schema(self.url(part))
        with self.connect(part) as connection, connection.cursor() as cursor, connection.transaction():
            for table, names in COLUMNS.items():
                columns = ",".join(f'"{c}"' for c in names.split())
                with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                    for row in rows(table, size):
                        copy.write_row(row)
            cursor.execute("SELECT setval('experiments_experiment_id_seq', 10)")
        self.run("VACUUM ANALYZE", part)
        self.run(f"ALTER DATABASE {part} RENAME TO {template}")
        print(f"filled PostgreSQL with {size.runs:,} runs in {time.monotonic() - began:.0f} s", flush=True)

    def drop(self, url: str) -> None:
        """Drop a copy."""
        self.run(f"DROP DATABASE {self._name(url)} WITH (FORCE)")

    def count(self, url: str, sql: str) -> int:
        """The one number that a query gives."""
        return self.run(sql, self._name(url))

    @staticmethod
    def _name(url: str) -> str:
        return url.partition("@/")[2].partition("?")[0]

    def close(self) -> None:
        """End the cluster."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
