"""Decides who may publish to a live channel, and end and begin its events: by its key or the admin token."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from origin.access.credentials import Authenticator, Secret, unauthorized
from origin.responses.refusal import plain_refusal


class RefusalError(Exception):
    """The answer is this status with this line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status

    def response(self) -> Response:
        """Make the answer, which nobody keeps."""
        if self.status == 401:
            return unauthorized(str(self))
        return plain_refusal(self.status, str(self), {"cache-control": "no-store"})


class Publishers:
    """Lets in who may change a live channel.

    Args:
        authenticator: checks keys.
        admin_token: opens every channel; empty: there is none.
        keys: ``publish_key`` by the channel's name, of those that have one.
    """

    def __init__(self, authenticator: Authenticator, admin_token: str, keys: Mapping[str, str]) -> None:
        self._authenticator = authenticator
        self._admin = Secret(admin_token)
        self._keys = {name: Secret(key) for name, key in keys.items()}

    async def authorize(self, request: Request, channel: str) -> None:
        """Let a publisher in, wherever the request comes from.

        Args:
            request: with the channel's key or the administrator's token.
            channel: its name.

        Raises:
            RefusalError: 401.
        """
        secrets = [self._admin, *filter(None, (self._keys.get(channel),))]
        if not await self._authenticator.admits(request, *secrets):
            raise RefusalError(401, "the channel's publish_key or server.admin_token is needed")


def require_type(request: Request, media_type: str) -> None:
    """Insist on a body's type: a form of another site can't send it without being asked first (Fetch, CORS).

    Raises:
        RefusalError: 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != media_type:
        raise RefusalError(415, f"the body must be {media_type}")
