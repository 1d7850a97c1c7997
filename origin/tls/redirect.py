"""Leads requests without encryption to HTTPS."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from origin.http.path_prefixes import port_of

HTTPS_PORT = 443


class RedirectToHttps:
    """Middleware that answers plain HTTP with a redirect to the same address by HTTPS.

    Requests that a trusted proxy got by HTTPS, and those to the administrator's port, are answered.

    Args:
        port: the port that the redirects name.
        admin_port: the administrator's; 0 for none.
    """

    def __init__(self, app: ASGIApp, port: int, admin_port: int) -> None:
        self._app, self._port, self._admin_port = app, port, admin_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application do so."""
        is_plain = scope["type"] == "http" and scope["scheme"] == "http"
        if not is_plain or (self._admin_port and port_of(scope) == self._admin_port):
            await self._app(scope, receive, send)
            return
        port = None if self._port == HTTPS_PORT else self._port
        url = Request(scope).url.replace(scheme="https", port=port)
        # RFC 9110 §15.4.9: a method and a body stay what they are.
        await RedirectResponse(url, 308)(scope, receive, send)
