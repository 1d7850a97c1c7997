"""Restricts requests for protected areas (lists, metrics, health), and requests that change something.

Requests that change something also need a key, which their own routes check (`credentials`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from origin.access.authentication import Authenticator, Secret, challenge, unauthorized
from origin.http.path_prefixes import port_of, private_area
from origin.responses.refusal import RefusalError, plain_refusal

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 §9.2.1: methods that only read. ``TRACE`` is not implemented."""

NOT_KEPT = {"cache-control": "no-store"}

ADMIN = "/admin/"
"""Path below which GET changes something, as Icecast's clients expect."""

PAGES_OF_OURS = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site (Fetch Metadata §2.4) that a browser never sends for another site's page."""


_ALLOWED = "headwater.allowed"
"""Key of a scope with the protected area, and whether something is changed, that were allowed."""

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")
"""RFC 9110 §7.2: a port may follow; an IPv6 address is in brackets."""


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """The protected areas, and their protection.

    Attributes:
        protected: which of ``api``, ``health`` and ``metrics`` need the token.
        admin_token: the token; empty for none.
        admin_port: port on which protected areas need no token; 0 for none.
        names: accepted host names of a server on loopback, besides its addresses and ``localhost``.
        loopback_ports: ports that only this machine reaches.
    """

    protected: frozenset[str] = frozenset()
    admin_token: str = ""
    admin_port: int = 0
    names: frozenset[str] = frozenset()
    loopback_ports: frozenset[int] = frozenset()


class AccessPolicy:
    """Decides who may see protected areas."""

    def __init__(self, options: AccessOptions, authenticator: Authenticator) -> None:
        self.options = options
        self._authenticator = authenticator

    async def may_see(self, request: Request, area: str) -> bool:
        """Return whether a request may see all of ``api``, ``health`` or ``metrics``."""
        is_open = area not in self.options.protected or port_of(request.scope) == self.options.admin_port
        return is_open or await self.is_admin(request)

    async def is_admin(self, request: Request) -> bool:
        """Return whether a request presents the administrator's token."""
        return await self._authenticator.admits(request, Secret(self.options.admin_token))

    async def refuse(self, scope: Scope, area: str | None, *, changes: bool) -> Response | None:
        """Refuse a request that may not see a protected area or change anything; None admits it.

        Args:
            area: the protected area that it is for; None for none.
            changes: whether it would change something.
        """
        request, options = Request(scope), self.options
        if changes and is_cross_site(request):
            return plain_refusal(403, "pages of other sites may not change anything here", NOT_KEPT)
        # DNS rebinding: a foreign name that resolves to this machine would make a foreign page same-origin.
        if port_of(scope) in options.loopback_ports and not is_known_host(request, options.names):
            line = "not asked under a name of this server: add it to server.names"
            return plain_refusal(421, line, NOT_KEPT)
        # The route of /health shows strangers less.
        if area in (None, "health") or await self.may_see(request, area):
            return None
        return unauthorized("server.admin_token is needed", {"www-authenticate": challenge(request)})

    async def refuse_others(self, request: Request) -> Response | None:
        """Refuse a request that isn't the administrator's, on every port; None admits it."""
        if is_cross_site(request):
            return plain_refusal(403, "pages of other sites may not see this", NOT_KEPT)
        if not await self.is_admin(request):
            return unauthorized("server.admin_token is needed", {"www-authenticate": challenge(request)})
        return None


class AccessMiddleware:
    """ASGI middleware that refuses forbidden requests by their path, before a route is looked for.

    Addresses that don't exist are refused, too. `guard_routes` checks the route that was found.
    """

    def __init__(self, app: ASGIApp, access: AccessPolicy) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await _checked(self._app, self._access, scope.get("path", ""), scope, receive, send)


def guard_routes(routes: Iterable[BaseRoute], access: AccessPolicy) -> None:
    """Put the check of access in front of routes: by a route's own path, however a request's is spelled."""
    for route in routes:
        if isinstance(route, Route):
            route.app = GuardedRoute(route.app, access, route.path)


class GuardedRoute:
    """The application of a route, with the check of access in front of it."""

    def __init__(self, app: ASGIApp, access: AccessPolicy, path: str) -> None:
        self._app = app
        self._access = access
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await _checked(self._app, self._access, self._path, scope, receive, send)


async def _checked(
    app: ASGIApp, access: AccessPolicy, path: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer one request, unless it may not see what is at a path, or may not change anything there."""
    answer: Response | None = None
    if scope["type"] == "http":
        area, changes = private_area(path), changes_something(scope["method"], path)
        # Routes needn't repeat the check of the path, which has computed the digests of keys.
        if (area is not None or changes) and scope.get(_ALLOWED) != (area, changes):
            try:
                answer = await access.refuse(scope, area, changes=changes)
            except RefusalError as error:
                answer = error.response()
            scope[_ALLOWED] = area, changes
    await (app if answer is None else answer)(scope, receive, send)


def changes_something(method: str, path: str) -> bool:
    """Return whether a request would change something, given the right key."""
    return method not in SAFE_METHODS or path.startswith(ADMIN)


def is_cross_site(request: Request) -> bool:
    """Return whether a browser sends a request on behalf of another site's page.

    Browsers add Basic credentials by themselves, so a valid key doesn't prove whose page sent the request.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in PAGES_OF_OURS
    # Fetch §3.2: browsers name the page's origin, also for requests that need no preflight.
    page = request.headers.get("origin")
    return page is not None and page.partition("://")[2].lower() != request.headers.get("host", "").lower()


def is_known_host(request: Request, names: frozenset[str]) -> bool:
    """Return whether a request to a loopback address names this machine in its Host field.

    Args:
        names: further host names of this server, in lower case.
    """
    host = request.headers.get("host")
    if host is None:
        return True
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = (found["address"] or found["name"]).removesuffix(".")
    # RFC 6761 §6.3: names below localhost are this machine's, too.
    return name in names or f".{name}".endswith(".localhost") or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Return whether an address is a loopback address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def loopback_ports(addresses: Sequence[tuple[str, int]]) -> frozenset[int]:
    """Return the ports that are only listened on at loopback addresses.

    Args:
        addresses: all that are listened on.
    """
    reached = {port for address, port in addresses if not is_loopback(address)}
    return frozenset(port for _, port in addresses) - reached
