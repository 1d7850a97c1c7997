"""Asks the administrator's own server who may listen to a station, and who may send to it.

About listeners it may also be asked as Icecast 2.4 does it (``listener_add``, ``listener_remove``), so that
what serves an Icecast's URL authentication serves a station unchanged: a form asks, and the field
``icecast-auth-user: 1`` of the answer allows, whatever its status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request

from origin.access.authentication import WebhookDeniedError, basic_credentials, client_address
from origin.access.limits import WebhookLimits
from origin.config.options import Config
from origin.radio.mounts.icy_headers import one_line
from origin.radio.source_clients import agent_of
from origin.responses.refusal import RefusalError
from origin.responses.request_body import while_connected

if TYPE_CHECKING:
    from origin.access.webhook import Webhook
    from origin.radio.mounts.limits import RadioLimits

log = structlog.get_logger()

MESSAGE_CHARS = 200
"""Of a text with which the administrator's server denies something."""

RETRY_SECONDS = 10
"""Retry-After where the administrator's server doesn't answer whether somebody may listen or send."""


@dataclass(frozen=True, slots=True)
class UrlAuthentication:
    """The webhooks that are asked about listeners as Icecast asks.

    Attributes:
        added: ``listener_add`` by the station's name.
        removed: ``listener_remove`` by the station's name.
        limits: how many reports of listeners who have left there are at once.
    """

    added: Mapping[str, Webhook] = field(default_factory=dict)
    removed: Mapping[str, Webhook] = field(default_factory=dict)
    limits: WebhookLimits = field(default_factory=WebhookLimits)


class StationWebhooks:
    """The webhooks of the stations that have some.

    Args:
        listeners: ``listener_webhook`` by the station's name.
        sources: ``source_webhook`` by the station's name.
        protected: the stations whose listeners have a password of this server, which isn't sent to webhooks.
        url_authentication: the stations' webhooks of Icecast's URL authentication.
    """

    def __init__(
        self,
        listeners: Mapping[str, Webhook] | None = None,
        sources: Mapping[str, Webhook] | None = None,
        protected: frozenset[str] = frozenset(),
        url_authentication: UrlAuthentication | None = None,
    ) -> None:
        self._listeners = {} if listeners is None else listeners
        self._sources = {} if sources is None else sources
        self._protected = protected
        self._asked_by_form = asked = url_authentication or UrlAuthentication()
        self._reports, self._free = asked.limits.reports, asyncio.Semaphore(asked.limits.requests)
        self._unreported = set[str]()

    def replace(self, other: StationWebhooks) -> None:
        """Ask those of another configuration from now on."""
        self._listeners, self._sources, self._protected = other._listeners, other._sources, other._protected
        self._asked_by_form = other._asked_by_form

    def are_asked(self, station: str) -> bool:
        """Return whether a station has webhooks for its listeners."""
        forms = self._asked_by_form
        return any(station in webhooks for webhooks in (self._listeners, forms.added, forms.removed))

    async def check_listener(self, station: str, request: Request, number: int) -> float:
        """Ask the station's webhooks about a listener, if it has some.

        Args:
            number: the listener's, by which the administrator names it.

        Returns:
            After how many seconds it is to be disconnected; 0: never.

        Raises:
            RefusalError: it may not listen, or nobody knows.
            ClientDisconnect: it has left.
        """
        if (webhook := self._listeners.get(station)) is not None:
            await self._ask_about_listener(webhook, station, request)
        if (webhook := self._asked_by_form.added.get(station)) is None:
            return 0.0
        return await while_connected(
            request, _add(webhook, self._form("listener_add", station, request, number))
        )

    async def report_listener(self, station: str, request: Request, number: int, seconds: float) -> None:
        """Report that a listener has left, where the station has a ``listener_remove``.

        Args:
            number: the listener's, as in ``check_listener``.
            seconds: for how long it listened.
        """
        if (webhook := self._asked_by_form.removed.get(station)) is None:
            return
        from origin.access.webhook import UnansweredError

        fields = self._form("listener_remove", station, request, number) | {"duration": str(int(seconds))}
        try:
            if self._reports <= 0:
                raise UnansweredError("has too much to answer")
            self._reports -= 1
            try:
                async with self._free:
                    await webhook.send_form(fields)
            finally:
                self._reports += 1
        except UnansweredError as error:
            if station not in self._unreported:  # a line when it begins: listeners may leave by the thousand
                self._unreported.add(station)
                log.warning(
                    "listeners who left aren't reported", mount=station, reason=f"listener_remove {error}"
                )
        else:
            self._unreported.discard(station)

    def _form(self, action: str, station: str, request: Request, number: int) -> dict[str, str]:
        """Make the form that Icecast 2.4 sends; ``mount`` is the address asked for, with its query."""
        is_told = station not in self._protected
        user, password = basic_credentials(request) if is_told else ("", "")
        query = f"?{request.url.query}" if is_told and request.url.query else ""
        server = request.scope.get("server") or ("", 0)
        return {
            "action": action,
            "server": request.url.hostname or "",
            "port": str(server[1] or 0),
            "client": str(number),
            "mount": request.scope.get("raw_path", request.url.path.encode()).decode("latin-1") + query,
            "user": user,
            "pass": password,
            "ip": client_address(request),
            "agent": agent_of(request),
        }

    async def _ask_about_listener(self, webhook: Webhook, station: str, request: Request) -> None:
        asked = _asked("listen", station, request)
        if station not in self._protected:
            # The webhook judges the listener's credentials, as Icecast's listener_add does.
            user, password = basic_credentials(request)
            asked |= {"user": user, "password": password, "query": request.url.query}
        # A listener who leaves meanwhile takes up none of the webhook's requests.
        await while_connected(request, _ask(webhook, asked, "listener_webhook"))

    async def check_source(self, station: str, request: Request) -> None:
        """Ask the webhook about a source client, without its password, which was checked.

        Raises:
            RefusalError: the client may not send, or the webhook doesn't answer.
        """
        if (webhook := self._sources.get(station)) is not None:
            await _ask(webhook, _asked("publish", station, request), "source_webhook")


def make_webhooks(config: Config, limits: RadioLimits) -> StationWebhooks:
    """Make the webhooks that are configured; the first time it takes a moment."""
    stations = config.radio
    keys = ("listener_webhook", "source_webhook", "listener_add", "listener_remove")
    if not any(getattr(one, key) for one in stations for key in keys):
        return StationWebhooks()
    from origin.access.webhook import Webhook

    listeners, sources, added, removed = (
        {one.name: Webhook(url, limits.webhook) for one in stations if (url := getattr(one, key))}
        for key in keys
    )
    protected = frozenset(one.name for one in stations if one.listener_password)
    return StationWebhooks(listeners, sources, protected, UrlAuthentication(added, removed, limits.webhook))


def _asked(action: str, station: str, request: Request) -> dict[str, str]:
    return {
        "action": action,
        "station": station,
        "address": client_address(request),
        "agent": agent_of(request),
    }


async def _add(webhook: Webhook, form: Mapping[str, str]) -> float:
    """Ask as Icecast does; return the seconds after which the listener is to be disconnected, 0 for never."""
    from origin.access.webhook import UnansweredError

    try:
        fields = await webhook.send_form(form)
    except UnansweredError as error:
        headers = {"retry-after": str(RETRY_SECONDS)}
        raise RefusalError(503, f"the station's listener_add {error}", headers) from None
    if fields.get("icecast-auth-user", "").strip() != "1":
        # As Icecast: programs such as ffmpeg send their password only once they are asked for it.
        message = one_line(fields.get("icecast-auth-message", ""))[:MESSAGE_CHARS]
        raise WebhookDeniedError(message or "the station's listener_add denied it")
    seconds = fields.get("icecast-auth-timelimit", "").strip()
    return float(seconds) if seconds.isascii() and seconds.isdecimal() and len(seconds) < 10 else 0.0


async def _ask(webhook: Webhook, asked: Mapping[str, object], name: str) -> None:
    from origin.access.webhook import DeniedError, UnansweredError

    try:
        await webhook.ask(asked)
    except DeniedError as error:
        raise RefusalError(403, f"the station's {name} {error}") from None
    except UnansweredError as error:
        headers = {"retry-after": str(RETRY_SECONDS)}
        raise RefusalError(503, f"the station's {name} {error}", headers) from None
