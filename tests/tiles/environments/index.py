"""A package index on the loopback address, with tiny packages made on the spot."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.fakes.machine.threaded import threaded

__all__ = ["Index", "served", "wheel"]


def wheel(name, version, files=None, needs=(), tag="py3-none-any"):
    """A wheel's file name and bytes; ``files`` by path, by default a module that knows its version."""
    files = {f"{name}.py": f"version = {version!r}\n", **(files or {})}
    info = f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += [f"Requires-Dist: {need}\n" for need in needs]
    files[f"{info}/METADATA"] = "".join(lines)
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: it\nRoot-Is-Purelib: true\nTag: {tag}\n"
    record = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text.encode())}\n")
    files[f"{info}/RECORD"] = "".join(record) + f"{info}/RECORD,,\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}-{version}-{tag}.whl", made.getvalue()


def source(name, version, setup):
    """A source distribution's file name and bytes, with ``setup`` as its setup.py."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, text in {
            "setup.py": setup,
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        }.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", made.getvalue()


class Index:
    """Files by project; ``asked`` is every path that was asked for, ``gate`` may hold up all answers."""

    def __init__(self, *files):
        self.files = {}
        self.asked = []
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.full = True
        for name, data in files:
            self.add(name, data)

    def add(self, name, data):
        self.files.setdefault(name.partition("-")[0], {})[name] = data

    def answer(self, path):
        """A page of the simple index, or a file; None where there is no such thing."""
        self.asked.append(path)
        self.reached.set()
        self.gate.wait(60)
        parts = path.strip("/").split("/")
        project = parts[1].replace("-", "_") if len(parts) > 1 else ""
        if project not in self.files:
            return None
        if len(parts) == 3:
            return self.files[project].get(parts[2])
        links = (
            f'<a href="/simple/{project}/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
            for name, data in self.files[project].items()
        )
        return ("<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>").encode()


@contextlib.contextmanager
def served(index):
    """The index's URL, while it is served."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = index.answer(self.path)
            self.send_response(200 if found is not None else 404)
            kind = "text/html" if self.path.endswith("/") else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(found or b"")

        do_HEAD = do_GET  # noqa: N815  as http.server has it

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with threaded(server):
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple"
        finally:
            index.gate.set()
