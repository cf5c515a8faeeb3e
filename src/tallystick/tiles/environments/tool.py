"""Programs that resolve and build: each a child process with limits, of whose output the end is kept."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from pathlib import Path

from tallystick.core.errors import Failed, MissingTile, NotSupported, TallyError, TookTooLong, Unavailable
from tallystick.core.wall import Wall
from tallystick.ports.sandbox import Confined, Sandbox

__all__ = ["Tool", "find_uv", "machine_env"]

LINES_KEPT = 40
WHY_CHARS_MAX = 700
OPEN_FILES = 4096
FILE_MIB = 8192
GRACE_S = 2.0
_PASSED = ("SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CONFIG_HOME", "NETRC", "HOME", "LD_LIBRARY_PATH")
_PASSED_UV = (
    *(
        "UV_INDEX",
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_INDEX_STRATEGY",
    ),
    *(
        "UV_KEYRING_PROVIDER",
        "UV_NATIVE_TLS",
        "UV_SYSTEM_CERTS",
        "UV_INSECURE_HOST",
        "UV_CONFIG_FILE",
        "UV_OFFLINE",
    ),
    *("UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_NO_INDEX"),
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_PIP = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}
_UNREACHED = (
    "error sending request",
    "failed to fetch",
    "dns error",
    "timed out",
    "connection",
    "could not connect",
)
_FULL = "no space left on device"


def find_uv() -> str:
    """The program uv, of the Python package or of this machine; MissingTile where there is none."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise MissingTile(
            "a component's own packages are built by uv, which is not installed",
            where="environments/uv",
            hint="pip install 'tallystick[environments]'",
        )
    return os.path.abspath(found)  # noqa: PTH100  a link to it is what may be meant: it stays one


def machine_env(env: Mapping[str, str]) -> dict[str, str]:
    """Of ``env`` what says how packages are reached: uv's variables, proxies, certificates; and pip's index.

    A machine that has told pip where its packages are need not tell it again to uv.
    """
    kept = {name: env[name] for name in (*_PASSED, *_PASSED_UV) if env.get(name)}
    kept |= {n: env[n] for name in _PROXIES for n in (name, name.upper()) if env.get(n)}
    if not any(name in kept for name in _PIP.values()):
        kept |= _of_pip(env)
    return kept


def _of_pip(env: Mapping[str, str]) -> dict[str, str]:
    """Index and links as pip's variables and files say them, a later one over an earlier one."""
    home = env.get("HOME", "/nonexistent")
    config = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = (
        "/etc/pip.conf",
        f"{home}/.pip/pip.conf",
        f"{config}/pip/pip.conf",
        env.get("PIP_CONFIG_FILE", ""),
    )
    said: dict[str, str] = {}
    for file in filter(None, files):
        parser = ConfigParser(interpolation=None)
        try:
            parser.read(file, encoding="utf-8")
        except (ConfigError, UnicodeDecodeError, OSError):
            continue
        for name in _PIP if parser.has_section("global") else ():
            if parser.has_option("global", name):
                said[name] = parser.get("global", name)
    for name in _PIP:
        if value := env.get("PIP_" + name.upper().replace("-", "_")):
            said[name] = value
    words = {_PIP[name]: value.split() for name, value in said.items()}
    return {name: ("," if name == "UV_FIND_LINKS" else " ").join(value) for name, value in words.items()}


@dataclass(frozen=True, slots=True)
class Tool:
    """Runs programs of ours in ``sandbox``; ``cache`` is uv's, and ``seconds`` what one run may take."""

    sandbox: Sandbox
    cache: Path
    seconds: float
    memory_mib: int

    async def run(self, argv: Sequence[str], folder: Path, what: str) -> None:
        """Run to its end in ``folder``. ``what`` it does is named in the error: see :func:`_wrong`."""
        wall = Wall(
            workdir=str(folder),
            writable=(str(self.cache),),
            env=self._env(),
            cpu_seconds=max(1, int(self.seconds)),
            memory_mib=self.memory_mib,
            file_mib=FILE_MIB,
            open_files=OPEN_FILES,
            network=True,
        )
        process = await self.sandbox.spawn(list(argv), wall)
        said: deque[str] = deque(maxlen=LINES_KEPT)
        try:
            process.stdin.close()
            async with asyncio.timeout(self.seconds), asyncio.TaskGroup() as group:
                group.create_task(_listen(process.stdout, said))
                group.create_task(_listen(process.stderr, said))
                waiting = group.create_task(_status(process))
        except TimeoutError:
            raise TookTooLong(
                f"{what}: it was not done after {self.seconds:g} s", where="environments/uv"
            ) from None
        finally:
            await asyncio.shield(asyncio.ensure_future(process.end(GRACE_S)))
        if waiting.result():
            raise _wrong(what, waiting.result(), said)

    def _env(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_SYSTEM_CERTS": "1",
            **machine_env(os.environ),
            "UV_CACHE_DIR": str(self.cache),
        }


async def _status(process: Confined) -> int:
    return await process.wait()


async def _listen(stream: asyncio.StreamReader, said: deque[str]) -> None:
    rest = b""
    while piece := await stream.read(65536):
        *lines, rest = (rest + piece).split(b"\n")
        said.extend(line[:2000].decode("utf-8", "replace") for line in lines)
        rest = rest[-2000:]
    if rest:
        said.append(rest.decode("utf-8", "replace"))


def _wrong(what: str, status: int, said: Sequence[str]) -> TallyError:
    """NotSupported for what uv has understood and cannot do, or else why it could not do it this time."""
    text = " ".join(" ".join(said).split())
    why = "".join(c for c in text if c.isascii() and c.isprintable()).strip()
    why = " ".join(why.removeprefix("error: ").split())[:WHY_CHARS_MAX] or f"uv ended with status {status}"
    low, where = text.lower(), "environments/uv"
    if _FULL in low:
        return Unavailable(f"{what}: the disk is full", where=where, hint="make room in the home's disk")
    if status < 0:
        return Failed(f"{what}: ended by signal {-status}", where=where)
    if any(word in low for word in _UNREACHED) and "no solution found" not in low:
        return Unavailable(f"{what}: {why}", where=where, hint="is the package index within reach?")
    return NotSupported(f"{what}: {why}", where=where)
