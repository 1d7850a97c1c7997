"""The URL with which a server's own addresses begin, as clients reach it."""

from __future__ import annotations

from starlette.requests import Request


def base_url(request: Request) -> str:
    """Return the configured URL of the server, or the one that the client has used, with no slash at its end.

    A token in the path of the request (``/t/TOKEN``) is the end of either.
    """
    public_url: str = getattr(request.app.state, "public_url", "") if "app" in request.scope else ""
    if not public_url:
        return str(request.base_url).rstrip("/")
    root_path: str = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    return public_url.rstrip("/") + root_path.rstrip("/")
