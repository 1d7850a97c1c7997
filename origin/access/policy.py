"""Restricts requests for protected areas (lists, metrics, health), and requests that change something.

Requests that change something also need a key, which their own routes check (`credentials`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from origin.access.authentication import Secret, UnauthorizedError, challenge, presents_key
from origin.access.authorization import (
    NEEDS,
    SERVER,
    Action,
    Authorization,
    NamedResource,
    Permission,
)
from origin.access.protected_addresses import MISSING, TokenGuard
from origin.access.token_middleware import base_path, has_token, refusal_of, token_of
from origin.access.visible_items import VisibleItems
from origin.http.path_prefixes import ADMIN, is_feed, port_of, private_area, relay_path
from origin.http.path_prefixes import LISTS as TELEVISION_LISTS
from origin.responses.refusal import RefusalError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 §9.2.1: methods that only read. ``TRACE`` is not implemented."""

LISTS = frozenset((*(f"/api/{area}" for area in ("library", "live", "radio", "events")), *TELEVISION_LISTS))
"""Paths of lists, of which the holder of a token sees what it covers where they are protected."""

TABLES = re.compile(r"/api/(?:live|radio|relays)/[^/]+")
"""Paths of tables that are made at run time: their routes check the permission for each by itself."""

CHANGING_LINKS = frozenset(
    f"{ADMIN}{action}{ending}"
    for action in ("metadata", "moveclients", "killclient", "killsource")
    for ending in ("", ".xsl")
)
"""Paths at which a GET changes something."""

BROWSER_FIELDS = ("upgrade-insecure-requests", "accept-language")
"""Header fields that browsers send with every request or navigation, and Icecast's clients never."""

PAGES_OF_OURS = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site (Fetch Metadata §2.4) that a browser never sends for another site's page."""


_ALLOWED = "headwater.allowed"
"""Key of a scope with the `AskedAccess` that was allowed."""

_COVERED = "headwater.covered"
"""Key of a scope whose request sees of a list what its token covers, and nothing else."""

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")
"""RFC 9110 §7.2: a port may follow; an IPv6 address is in brackets."""


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """The protected areas, and their protection.

    Attributes:
        protected: which of ``api``, ``health`` and ``metrics`` need the administrator's token.
        admin_port: port on which protected areas need no token; 0 for none.
        names: accepted host names of a server on loopback, besides its addresses and ``localhost``.
        loopback_ports: ports that only this machine reaches.
        relay_origins: the origins whose pages may ask a relay, by its path.
    """

    protected: frozenset[str] = frozenset()
    admin_port: int = 0
    names: frozenset[str] = frozenset()
    loopback_ports: frozenset[int] = frozenset()
    relay_origins: Mapping[str, Collection[str]] = field(default_factory=dict)

    def admits_page(self, request: Request) -> bool:
        """Return whether a page of another site may ask the relay that a request is for.

        Basic credentials, which a browser adds by itself, aren't a relay's key there.
        """
        origins = self.relay_origins.get(relay_path(request.url.path), ())
        return "*" in origins or request.headers.get("origin") in origins


class AskedAccess(NamedTuple):
    """The permissions that a request needs.

    Attributes:
        area: the protected area that it is for; None for none.
        changes: whether it would change something, given the right key.
        is_link: whether a link would do, to which browsers name no origin.
    """

    area: str | None
    changes: bool
    is_link: bool

    @classmethod
    def of(cls, method: str, path: str) -> AskedAccess:
        """Return the permissions for a method at a path."""
        is_safe = method in SAFE_METHODS
        changes = not is_safe or path.startswith(ADMIN)
        return cls(private_area(path), changes, is_safe and path in CHANGING_LINKS)


def sees_covered_alone(scope: Scope) -> bool:
    """Return whether a request sees of a list what its token covers, and nothing else."""
    return bool(scope.get(_COVERED))


class AccessPolicy:
    """Decides who may see protected areas, and what lists and descriptions show.

    Args:
        guard: checks the tokens of signed addresses; None where no address needs one.
    """

    def __init__(
        self, options: AccessOptions, authorization: Authorization, guard: TokenGuard | None = None
    ) -> None:
        self.options = options
        self.guard = guard
        self._authorization = authorization

    async def has_token(self, scope: Scope) -> bool:
        """Return whether a request has a token of a signed address that hasn't expired."""
        return self.guard is not None and await has_token(scope, self.guard.keys)

    async def visible_to(self, request: Request, others: Iterable[Secret] = ()) -> VisibleItems:
        """Return what lists show to a request.

        Args:
            others: further keys that a request for the list may present.
        """
        if (guard := self.guard) is None:
            return VisibleItems(None)
        token = token_of(request.scope, guard.keys)
        is_admin = token is None and presents_key(request, with_basic=False)
        is_admin = is_admin and await self.shows_all(request, *others)
        base = base_path(request.scope, guard.keys)
        return VisibleItems(guard, token, sees_covered_alone(request.scope), is_admin, base)

    def needs_token(self, request: Request, path: str) -> RefusalError:
        """Return the refusal of a request, with the reason why its token, if any, doesn't open an address.

        Args:
            path: decoded, without token and query.
        """
        reason = "" if self.guard is None else refusal_of(request.scope, self.guard, path)
        return UnauthorizedError(reason or MISSING, {"www-authenticate": challenge(request)})

    async def may_see(self, request: Request, area: str) -> bool:
        """Return whether a request may see all of ``api``, ``health`` or ``metrics``."""
        return self.is_open(request, area) or await self.is_admin(request)

    def is_open(self, request: Request, area: str) -> bool:
        """Return whether everybody may see all of an area on the port of a request."""
        return area not in self.options.protected or port_of(request.scope) == self.options.admin_port

    async def is_admin(self, request: Request) -> bool:
        """Return whether a request presents the administrator's token."""
        return await self._authorization.permission(request, Action.ADMINISTER, SERVER) is not None

    async def shows_all(self, request: Request, *others: Secret) -> bool:
        """Return whether a list shows everything to a request, by the administrator's token.

        Args:
            others: keys that aren't wrong there.
        """
        return await self._authorization.is_admin(request, *others, with_basic=False)

    def is_local(self, request: Request) -> bool:
        """Return whether a page shows what concerns the owner to who presents no token.

        That is everybody on ``admin_port``, and everybody on this machine while nothing is protected. To
        change something still needs a token.
        """
        options, port = self.options, port_of(request.scope)
        if options.admin_port and port == options.admin_port:
            return True
        is_own = not options.protected and port in options.loopback_ports
        return is_own and request.client is not None and is_loopback(request.client.host)

    async def require(self, scope: Scope, asked: AskedAccess) -> None:
        """Check that a request may see a protected area, or change something.

        Raises:
            RefusalError: it may not.
        """
        request, options, area = Request(scope), self.options, asked.area
        if asked.changes and is_cross_site(request) and not options.admits_page(request):
            raise RefusalError(403, "pages of other sites may not change anything here")
        if asked.is_link and may_be_led(request):
            line = "browsers may not change anything by a link: use a client of Icecast, or HTTPS"
            raise RefusalError(403, line)
        # DNS rebinding: a foreign name that resolves to this machine would make a foreign page same-origin.
        if port_of(scope) in options.loopback_ports and not is_known_host(request, options.names):
            raise RefusalError(421, "not asked under a name of this server: add it to server.names")
        # The route of /health shows strangers less.
        if area in (None, "health") or TABLES.fullmatch(scope["path"]) or await self.may_see(request, area):
            return
        if not (scope["path"] in LISTS or is_feed(scope["path"])) or not await self.has_token(scope):
            raise self._needs(request, Action.ADMINISTER, SERVER)
        scope[_COVERED] = True

    async def require_admin(self, request: Request) -> None:
        """Check that a request is the administrator's, on every port.

        Raises:
            RefusalError: it isn't.
        """
        await self.require_permission(request, Action.ADMINISTER, SERVER)

    async def require_permission(
        self, request: Request, action: Action, resource: NamedResource
    ) -> Permission:
        """Check that a request of a page of this server, or of no page, may do something.

        Raises:
            RefusalError: it may not.
        """
        if is_cross_site(request):
            raise RefusalError(403, "pages of other sites may not see this")
        found = await self._authorization.permission(request, action, resource)
        if found is None:
            raise self._needs(request, action, resource)
        return found

    def _needs(self, request: Request, action: Action, resource: NamedResource) -> RefusalError:
        line = NEEDS[action, resource.kind].line
        if not self._authorization.admin.secret.text:
            line += "; the configuration has none: set one, and start the server again"
        return UnauthorizedError(line, {"www-authenticate": challenge(request)})


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
    if scope["type"] == "http":
        asked = AskedAccess.of(scope["method"], path)
        # Routes needn't repeat the check of the path, which has computed the digests of keys.
        if any(asked) and scope.get(_ALLOWED) != asked:
            scope[_ALLOWED] = asked
            try:
                await access.require(scope, asked)
            except RefusalError as error:
                await error.response()(scope, receive, send)
                return
    await app(scope, receive, send)


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


def may_be_led(request: Request) -> bool:
    """Return whether a browser may have sent a GET because another site's page led it there.

    To servers without encryption browsers send no Sec-Fetch-Site (Fetch Metadata §2), and with a GET no
    Origin (Fetch §3.2). So what seems to be a browser has to name a page of `ADMIN` in its Referer.
    """
    headers = request.headers
    if "sec-fetch-site" in headers or "origin" in headers:
        return False  # `is_cross_site` decides
    is_browser = "mozilla/" in headers.get("user-agent", "").lower() or any(
        name in headers for name in BROWSER_FIELDS
    )
    rest = headers.get("referer", "").partition("://")[2]
    # A page of the library isn't one of ours.
    return is_browser and not rest.lower().startswith(f"{headers.get('host', '').lower()}{ADMIN}")


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
