"""Who may listen to a station with a password for listeners: who knows it, or has a signed address."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from origin.credentials import Authenticator, Secret, unauthorized
from origin.radio.mount import Mount


async def may_listen(request: Request, mount: Mount, authenticator: Authenticator) -> bool:
    """Tell whether a request has the station's password, or an address signed with it; or it needs none.

    Args:
        request: for its sound, or for what is told of it: an address signed for ``/radio/NAME`` opens both.
        mount: the station.
        authenticator: checks passwords.
    """
    password = mount.options.listener_password
    return not password or await authenticator.admits(
        request, Secret(password, signed_path=f"/radio/{mount.name}")
    )


def refusal() -> Response:
    """Ask for the password."""
    return unauthorized("this station is for listeners with a password")
