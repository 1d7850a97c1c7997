"""Who may publish to a live channel: whoever has its key, or, where it has none, this machine alone."""

from __future__ import annotations

import ipaddress

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from origin.credentials import Authenticator, Secret, unauthorized

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Hosts under which a page of this same machine asks; any other name may be somebody else's."""


class RefusalError(Exception):
    """The answer is this status with this line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status

    def response(self) -> Response:
        """Make the answer, which nobody keeps."""
        if self.status == 401:
            return unauthorized(str(self))
        return PlainTextResponse(f"{self}\n", self.status, {"cache-control": "no-store"})


async def authorize(request: Request, key: str | None, authenticator: Authenticator) -> None:
    """Let a publisher in.

    Args:
        request: with ``?key=``, or Authorization Bearer, or Basic with the key as password.
        key: the channel's, or None: then only this machine may publish.
        authenticator: checks keys.

    Raises:
        RefusalError: 401 or 403.
    """
    if key is not None:
        if not await authenticator.admits(request, Secret(key)):
            raise RefusalError(401, "the channel's publish_key is needed")
        return
    # What came through a proxy isn't from this machine, whoever the connection is from; and a page under a
    # foreign name that resolves to this machine isn't ours.
    forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    host = request.headers.get("host", "")
    is_local = host in LOCAL_NAMES or host.rpartition(":")[0] in LOCAL_NAMES
    # Fetch §3.2: browsers say whose page asks, also where it may send without having been let to before.
    page = request.headers.get("origin")
    is_foreign = page is not None and page.partition("://")[2] != host
    address = "" if request.client is None else request.client.host
    if forwarded or is_foreign or not is_local or not _is_loopback(address):
        raise RefusalError(403, "only from this machine, since the channel has no publish_key")


def require_type(request: Request, media_type: str) -> None:
    """Insist on a body's type: a form of another site can't send it without being asked first (Fetch, CORS).

    Raises:
        RefusalError: 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise RefusalError(415, f"the body must be {media_type}")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
