"""Cookies of foreign servers (RFC 6265), in which CDNs keep sessions: the newest ones, as far as they fit.

Cookies may come with each answer for as long as a source is followed, and all of them go with each request.
"""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar
from typing import Any

from packager.sources.limits import GuardLimits


class BoundedCookies(CookieJar):
    """The cookies of a configured URL and all that it refers to; ``cookies`` of ``httpx.AsyncClient``.

    Args:
        limits: how many there may be, and how long.
    """

    def __init__(self, limits: GuardLimits) -> None:
        super().__init__()
        self._limits = limits
        # Which there are, and some that are gone; the one that was set last comes last.
        self._order: dict[tuple[str, str, str], None] = {}
        self._has_new = False

    def set_cookie(self, cookie: Cookie) -> None:
        """Keep a cookie, in place of the one that it replaces."""
        super().set_cookie(cookie)
        key = _key_of(cookie)
        self._order.pop(key, None)
        self._order[key] = None
        self._has_new = True

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Take an answer's cookies, which are no longer than its head may be; see ``CookieJar``."""
        super().extract_cookies(response, request)
        if self._has_new:
            self._leave_out()

    def _leave_out(self) -> None:
        """Keep the newest cookies that fit, and nothing of the domains and paths of others."""
        there = {_key_of(cookie): cookie for cookie in self if not cookie.is_expired()}
        kept, size = list[Cookie](), 0
        for key in reversed(self._order):
            cookie = there.get(key)
            if cookie is None or len(kept) >= self._limits.cookies:
                continue
            length = sum(map(len, key)) + len(cookie.value or "")
            if size + length <= self._limits.cookie_bytes:
                size += length
                kept.append(cookie)
        self.clear()
        self._order.clear()
        for cookie in reversed(kept):
            self.set_cookie(cookie)
        self._has_new = False


def _key_of(cookie: Cookie) -> tuple[str, str, str]:
    """Return the identity of a cookie (RFC 6265 §5.3, step 11)."""
    return cookie.domain, cookie.path, cookie.name
