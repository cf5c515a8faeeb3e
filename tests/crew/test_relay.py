"""Whom the relay, or a step's keeper, takes for its own."""

from __future__ import annotations

import os
import socket

from tallystick.crew.relay import same_user


def test_who_has_gone_is_nobody_even_to_a_hub_of_root(monkeypatch):
    """What a step has sent before it ended is not for the door of the next one."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        with socket.create_connection(door.getsockname()) as caller:
            ports = caller.getsockname()[1], door.getsockname()[1]
            assert same_user(*ports)
            caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
        monkeypatch.setattr(os, "getuid", lambda: 0)
        assert not same_user(*ports)
