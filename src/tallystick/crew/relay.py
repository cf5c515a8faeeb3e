"""The relay: a loopback address inside a sandbox that leads to the hub's unix socket, and nowhere else.

Clients such as MLflow's speak HTTP to an address, not to a unix socket. The relay is a process of its own,
so that a step may hold Python's lock for as long as it likes, or fork, without a thread in its way.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from pathlib import Path

__all__ = ["CONNECTIONS_MAX", "same_user", "start_relay"]

CONNECTIONS_MAX = 32
"""Open at once; further ones wait until one of these ends."""
BACKLOG = 64
PIECE_BYTES = 64 * 1024
STACK_BYTES = 256 * 1024
"""A relay's threads do little, and the usual 8 MiB each would count against the step's memory."""


def start_relay(hub_socket: str) -> int:
    """Fork the relay; the port on 127.0.0.1 where it listens for as long as the caller lives."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    port = int(listener.getsockname()[1])
    watched, _held = os.pipe()  # the other end stays open in the caller, and ends with it
    if os.fork():
        os.close(watched)
        listener.close()
        return port
    try:
        os.close(_held)
        _silence()
        _serve(listener, hub_socket, watched)
    finally:
        os._exit(0)


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _serve(listener: socket.socket, hub_socket: str, watched: int) -> None:
    threading.stack_size(STACK_BYTES)
    places = threading.BoundedSemaphore(CONNECTIONS_MAX)
    ended, end = os.pipe()  # one byte for each connection that ended
    waiting = [listener.fileno(), watched]
    while True:
        free = places.acquire(blocking=False)
        ready, _, _ = select.select(waiting if free else [watched, ended], [], [])
        if watched in ready:
            return
        if not free:
            os.read(ended, PIECE_BYTES)
            continue
        client, peer = listener.accept()
        if not same_user(peer[1], listener.getsockname()[1]):
            client.close()
            places.release()
            continue
        threading.Thread(target=_carry, args=(client, hub_socket, places, end), daemon=True).start()


def same_user(client_port: int, relay_port: int) -> bool:
    """Whether the connection between these ports of 127.0.0.1 is of a process of this one's own user.

    In a sandbox that does not block the network, any user of the machine can reach the port. Of what nobody
    holds any more the kernel says that it is root's; it may be of a step that has ended.
    """
    wanted = (f"0100007F:{client_port:04X}", f"0100007F:{relay_port:04X}")
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        columns = line.split()
        if (columns[1], columns[2]) == wanted:
            uid, inode = columns[7], columns[9]
            return inode != "0" and int(uid) == os.getuid()
    return False


def _carry(client: socket.socket, hub_socket: str, places: threading.BoundedSemaphore, end: int) -> None:
    """Carry bytes both ways until both sides have said all."""
    try:
        with client, socket.socket(socket.AF_UNIX) as hub, contextlib.suppress(OSError):
            hub.connect(hub_socket)
            back = threading.Thread(target=_copy, args=(hub, client), daemon=True)
            back.start()
            _copy(client, hub)
            back.join()
    finally:
        places.release()
        os.write(end, b".")


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
