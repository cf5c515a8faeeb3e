"""The guard at the front door: only requests that mean this hub, from this hub's own pages or from tools."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.core.errors import Refused

__all__ = ["Guard"]

_LOOKED_AT = frozenset((b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode"))


class Guard:
    """Refuses what a web page of another origin could send (DNS rebinding, CSRF).

    ``Host`` must name this hub; ``Origin``, where there is one, must be this hub's own; and what a
    browser itself marks as coming from elsewhere (Fetch Metadata, ``Sec-Fetch-Site``) may only be a
    link that somebody followed.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app = app
        self.hosts = {h.lower() for h in hosts}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 with the reason, or hand the request on."""
        if scope["type"] != "http":  # no door speaks WebSocket, and what is not checked is not let in
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        wrong = self._wrong(scope)
        if wrong:
            response = JSONResponse(wrong.as_dict(), status_code=wrong.http_status)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _wrong(self, scope: Scope) -> Refused | None:
        said: dict[bytes, list[str]] = {}
        for key, value in scope["headers"]:
            name = key.lower()
            if name in _LOOKED_AT:
                said.setdefault(name, []).append(value.decode("latin-1").strip().lower())
        hosts = said.get(b"host", [])
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            shown = ", ".join(hosts)[:100] or "none"
            return Refused(f"Host {shown!r} is not this hub", where="guard", hint=f"use {min(self.hosts)}")
        for origin in said.get(b"origin", []):
            if origin not in self.origins:
                return Refused(f"Origin {origin[:100]!r} may not use this hub", where="guard")
        sites, modes = said.get(b"sec-fetch-site", []), said.get(b"sec-fetch-mode", [])
        followed_link = scope["method"] in ("GET", "HEAD") and modes == ["navigate"]
        if any(site not in ("same-origin", "none") for site in sites) and not followed_link:
            return Refused("a page of another site may not use this hub", where="guard")
        return None
