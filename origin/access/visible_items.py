"""The items that lists and descriptions show to strangers, holders of tokens and the administrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from origin.access.address_tokens import Token
from origin.access.protected_addresses import TokenGuard
from origin.http.path_prefixes import area_of
from origin.responses.json_response import based

TOKEN_AREAS = frozenset(("media", "vod", "live", "radio", "events"))
"""Areas of which an address may need a token of its own; elsewhere the request's is passed on."""


@dataclass(frozen=True)
class VisibleItems:
    """The items that lists show to a request.

    Attributes:
        guard: checks tokens; None where no address needs one.
        token: of the request; None without one that hasn't expired.
        covered_alone: as of `TokenGuard.shows`.
        is_admin: whether the request presents the administrator's token, which shows everything.
        base: beginning of absolute paths that have the request's token.
    """

    guard: TokenGuard | None
    token: Token | None = None
    covered_alone: bool = False
    is_admin: bool = False
    base: str = ""

    def shows(self, *paths: str) -> bool:
        """Return whether lists name something that has one of these addresses."""
        if self.guard is None or self.is_admin:
            return True
        return self.guard.shows(self.token, *paths, covered_alone=self.covered_alone)

    def __call__(self, path: str) -> bool:
        """Return whether the item of a path in the library is listed."""
        return self.shows(f"/vod/{path}", f"/media/{path}")

    def may_fetch(self, path: str) -> bool:
        """Return whether the request may fetch an address.

        Args:
            path: decoded, without token and query.
        """
        return self.guard is None or self.is_admin or self.guard.may_fetch(self.token, path)

    def may_clip(self, path: str) -> bool:
        """Return whether the request may fetch parts of an address: clips, programmes and other times."""
        return self.guard is None or self.is_admin or self.guard.may_clip(self.token, path)

    def based(self, value: Any) -> Any:
        """Return a JSON value whose addresses have the request's token where they need it."""
        return based(value, self.base, self._needs_token)

    def _needs_token(self, address: str) -> bool:
        path = unquote(address.partition("?")[0])
        return (
            self.guard is None
            or area_of(path) not in TOKEN_AREAS
            or bool(self.guard.protected.signed_paths(path))
        )
