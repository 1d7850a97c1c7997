"""Asks the administrator's own server who may listen to a station, and who may send to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request

from origin.access.authentication import basic_credentials, client_address
from origin.radio.source_clients import agent_of
from origin.responses.refusal import RefusalError
from origin.responses.request_body import while_connected

if TYPE_CHECKING:
    from origin.access.webhook import Webhook
    from origin.config.options import RadioOptions
    from origin.radio.limits import RadioLimits

RETRY_SECONDS = 10
"""Retry-After where the administrator's server doesn't answer whether somebody may listen or send."""


class StationWebhooks:
    """The webhooks of the stations that have some.

    Args:
        listeners: ``listener_webhook`` by the station's name.
        sources: ``source_webhook`` by the station's name.
        protected: the stations whose listeners have a password of this server's, which isn't told.
    """

    def __init__(
        self,
        listeners: Mapping[str, Webhook] | None = None,
        sources: Mapping[str, Webhook] | None = None,
        protected: frozenset[str] = frozenset(),
    ) -> None:
        self._listeners = listeners or {}
        self._sources = sources or {}
        self._protected = protected

    async def check_listener(self, station: str, request: Request) -> None:
        """Ask about a listener, where the station has a webhook for them.

        Raises:
            RefusalError: it may not listen, or nobody knows.
            ClientDisconnect: it has left.
        """
        if (webhook := self._listeners.get(station)) is None:
            return
        asked = _asked("listen", station, request)
        if station not in self._protected:
            # What listeners present is for whoever is asked to judge, as with Icecast's listener_add.
            user, password = basic_credentials(request)
            asked |= {"user": user, "password": password, "query": request.url.query}
        # Who leaves meanwhile takes up none of the requests that are waited for.
        await while_connected(request, _ask(webhook, asked, "listener_webhook"))

    async def check_source(self, station: str, request: Request) -> None:
        """Ask about a source client whose password was checked, and isn't told.

        Raises:
            RefusalError: it may not send, or nobody knows.
        """
        if (webhook := self._sources.get(station)) is not None:
            await _ask(webhook, _asked("publish", station, request), "source_webhook")


def make_webhooks(stations: tuple[RadioOptions, ...], limits: RadioLimits) -> StationWebhooks:
    """Make the webhooks that are configured; the first time it takes a moment."""
    if not any(one.listener_webhook or one.source_webhook for one in stations):
        return StationWebhooks()
    from origin.access.webhook import Webhook

    return StationWebhooks(
        {one.name: Webhook(one.listener_webhook, limits.webhook) for one in stations if one.listener_webhook},
        {one.name: Webhook(one.source_webhook, limits.webhook) for one in stations if one.source_webhook},
        frozenset(one.name for one in stations if one.listener_password),
    )


def _asked(action: str, station: str, request: Request) -> dict[str, str]:
    return {
        "action": action,
        "station": station,
        "address": client_address(request),
        "agent": agent_of(request),
    }


async def _ask(webhook: Webhook, asked: Mapping[str, object], name: str) -> None:
    from origin.access.webhook import DeniedError, UnansweredError

    try:
        await webhook.ask(asked)
    except DeniedError as error:
        raise RefusalError(403, f"the station's {name} {error}") from None
    except UnansweredError as error:
        headers = {"retry-after": str(RETRY_SECONDS)}
        raise RefusalError(503, f"the station's {name} {error}", headers) from None
