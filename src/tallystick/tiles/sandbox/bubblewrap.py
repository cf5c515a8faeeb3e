"""bubblewrap: namespaces of its own for everything, and of the host only what the wall names.

Inside there is a read-only root with the system's programs and libraries, the Python in use and this package;
/tmp and the user's home are empty and in memory, and the hub's home is not there; the network is a
loopback of its own; the user is an ordinary one without capabilities. ``NOT_DONE`` says what is not done.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.wall import Strength, Wall
from tallystick.ports.sandbox import Confined
from tallystick.ports.tile import Place
from tallystick.tiles.sandbox.confined import MIB, Order, Warden

__all__ = ["NOT_DONE", "BubblewrapSandbox", "open_tile"]

NOT_DONE = (
    "no filter of system calls: the whole kernel can be called",
    "limits hold for each process, not for all of them together, and memory counts only where it is private: "
    "shared memory (mmap, memfd) is not limited",
    "where the hub runs as root, a file in the wall's writable folders can be made to belong to root, setuid "
    "included: run the hub as an ordinary user",
    "the number of processes is not limited where the hub runs as root, or without the program prlimit",
)
"""What this sandbox does not do, in plain words."""

HOME = "/home/tally"
UID = "1000"
FOLDER_MIB_MAX = 512
"""Of each folder in memory, where the wall's memory is not less; nothing else limits these."""
TRIAL_SECONDS_MAX = 60
"""It takes 15 ms; a machine that is only busy must not be taken for one that can build no walls."""
_ETC = Path(__file__).with_name("etc")
_ROOT_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SHOWN = (
    "/usr",
    "/etc/alternatives",  # Debian's BLAS and others are links through it
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system/cpu",  # ONNX Runtime asks it for the number of cores
)
_SHOWN_WITH_NETWORK = ("/etc/resolv.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")
_NESTING = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETFCAP")
"""For mounts, a loopback and a map of users: held in the wall's own namespaces, so over these alone."""
_OWN_ETC = ("passwd", "group", "hosts", "nsswitch.conf")


def _namespaces(*, nests: bool = False) -> Iterator[str]:
    yield from (
        "--unshare-all",
        "--unshare-user",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "tally",
    )
    yield from ("--cap-drop", "ALL")
    if not nests:
        yield from ("--disable-userns", "--uid", UID, "--gid", UID)
        return
    yield from (
        "--uid",
        "0",
        "--gid",
        "0",
    )  # another user would be put into one more namespace, without these
    for capability in _NESTING:
        yield from ("--cap-add", capability)


def _root() -> Iterator[str]:
    for path in _ROOT_FOLDERS:
        folder = Path(path)
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), path)
        elif folder.is_dir():
            yield from ("--ro-bind", path, path)
    for path in _SHOWN:
        yield from ("--ro-bind-try", path, path)
    for name in _OWN_ETC:
        yield from ("--ro-bind", str(_ETC / name), f"/etc/{name}")
    yield from ("--proc", "/proc", "--dev", "/dev")


def _python() -> tuple[str, ...]:
    """The Python in use, its environment, and this package: what ``python -m tallystick.crew...`` needs."""
    return tuple(dict.fromkeys((sys.base_prefix, sys.prefix, str(_ETC.parents[2]))))


def _memory_folders(wall: Wall) -> Iterator[str]:
    """Folders in memory; what is large belongs into the wall's own folders, on disk."""
    size = min(wall.memory_mib, FOLDER_MIB_MAX) * MIB
    for path in ("/tmp", HOME, "/dev/shm"):  # noqa: S108  inside the wall, each is new and nobody else's
        yield from ("--size", str(size), "--perms", "0700", "--tmpfs", path)


def _veils(home: Path, wall: Wall) -> tuple[str, ...]:
    """Where the hub's home is seen in what every wall shows, as with a virtual environment around it."""
    own, home = {wall.workdir, *wall.readable, *wall.writable}, home.resolve()
    veils: dict[str, None] = {}
    for path in (*_ROOT_FOLDERS, *_SHOWN, *_python()) if home.exists() else ():
        shown = Path(path).resolve()
        if home == shown:
            hint = "choose a folder of its own with --home"
            raise BadInput("every wall shows this folder, so it cannot be the home", where=path, hint=hint)
        if home.is_relative_to(shown):
            veils[str(Path(path) / home.relative_to(shown))] = None
    return tuple(veil for veil in veils if veil not in own)


def _views(wall: Wall, veils: Sequence[str]) -> Iterator[str]:
    """What the wall shows and what it hides, outer folders first, so that none hides another."""
    kinds = dict.fromkeys(_python(), "--ro-bind") | dict.fromkeys(veils, "--tmpfs")
    kinds |= dict.fromkeys(wall.readable, "--ro-bind")
    kinds |= dict.fromkeys((*wall.writable, wall.workdir), "--bind")
    for path, kind in sorted(kinds.items()):
        if not Path(path).exists():
            raise BadInput("a path that the wall shows does not exist", where=path)
        yield from ("--size", str(MIB), kind, path) if kind == "--tmpfs" else (kind, path, path)


def _command(program: str, wall: Wall, argv: Sequence[str], home: Path) -> tuple[str, ...]:
    network = ["--share-net"] if wall.network else []
    for path in _SHOWN_WITH_NETWORK if wall.network else ():
        network += ["--ro-bind-try", path, path]
    veils = _veils(home, wall)
    # To the kernel, the user of a hub that runs as root stays root, even without a capability. What /proc
    # lets root write must be read-only (kernel.core_pattern runs programs on the host): bubblewrap alone
    # leaves it open.
    fixed = [part for path in (*veils, "/proc", "/dev", "/") for part in ("--remount-ro", path)]
    within = [*_views(wall, veils), *fixed, "--chdir", wall.workdir, "--"]
    # Before the namespaces the kernel would count all of the user's processes, inside it counts only these.
    count = shutil.which("prlimit", path="/usr/bin:/bin")
    counted = [count, f"--nproc={wall.processes}", "--"] if count else []
    own = (*_namespaces(nests=wall.nests), *_root(), *network, *_memory_folders(wall))
    return (program, *own, *within, *counted, *argv)


def _without(env: Mapping[str, str], order: Order) -> Order:
    """The order with ``env`` for what is inside alone.

    bubblewrap itself stands outside: of its own variables the loader would take, for one, LD_PRELOAD, and
    pipelines say the variables of their steps.
    """
    words = (word for name, value in env.items() for word in ("--setenv", name, value))
    return replace(order, env={}, unseen=tuple(words))


@functools.cache
def _trial(program: str) -> str:
    """Why bubblewrap does not work on this machine; empty when it does. Asked once a process.

    TimeoutExpired where it did not come to an end: that is no answer, and so not kept.
    """
    command = [program, *_namespaces(), *_root(), "--", "/bin/true"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_SECONDS_MAX,
            check=False,
            env={},
        )
    except OSError as wrong:
        return str(wrong)
    if done.returncode == 0:
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1][:300] if said else f"it ended with status {done.returncode}"


class BubblewrapSandbox:
    """Processes in namespaces of their own, made by the program at ``program``; none sees ``home``."""

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self._home = home
        self._warden = Warden()

    def strength(self) -> Strength:
        """All four, with the reservations in ``NOT_DONE``."""
        return Strength(
            "bubblewrap", hides_files=True, blocks_network=True, hides_processes=True, limits_resources=True
        )

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Confined:
        """Start ``argv`` behind ``wall``; BadInput for a path of the wall that does not exist.

        A program that cannot be started inside ends with a status of 126 or 127 and says why on standard
        error.
        """
        Order.behind(wall, argv)  # the program inside is held to the same rules as the wall's own
        command = _command(self._program, wall, argv, self._home)
        return await self._warden.start(_without(wall.env, Order.behind(wall, command, spare=1)))

    async def close(self) -> None:
        """End everything that was started and is still running."""
        await self._warden.close()


def open_tile(place: Place) -> BubblewrapSandbox:
    """The sandbox; Unavailable, with the next step, where it cannot work. It keeps nothing in the home."""
    program = shutil.which("bwrap")
    if program is None:
        raise Unavailable(
            "the program bwrap is not installed",
            where="sandbox/bubblewrap",
            hint="apt-get install bubblewrap",
        )
    try:
        wrong = _trial(program)
    except subprocess.TimeoutExpired as late:
        wrong = f"it was not done after {late.timeout:g} s"
    if wrong:
        raise Unavailable(
            f"bubblewrap cannot make a sandbox here: {wrong}",
            where="sandbox/bubblewrap",
            hint="allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces=10000), "
            "or choose the sandbox 'process'",
        )
    return BubblewrapSandbox(program, place.home)
