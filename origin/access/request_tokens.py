"""Finds the token of a request: in its path or query, in ``Authorization``, or in a cookie."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

TOKEN = "headwater.token"  # noqa: S105  # a name
"""Key of a scope with the token of the request's path."""

PARAMETER = "token="
"""Beginning of a query's field that has the token."""

LEAST_DOTS = 2
"""Dots between the fields of the shortest token; keys in ``Authorization`` seldom have as many."""

COOKIE = "headwater_token"
"""Name of the cookie that may have the token."""


def query_token(query: str) -> str:
    """Return the token of a query; empty without one.

    The parameter's name isn't decoded, so that caches in front find it in the query by this very spelling.
    """
    values = (field.removeprefix(PARAMETER) for field in query.split("&") if field.startswith(PARAMETER))
    return unquote_plus(next(filter(None, values), ""))


def cookie_token(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the token of a request's cookies; empty without one.

    Pages of other sites can have a browser send cookies, which don't count where it says that one has asked.
    """
    fields = Headers(raw=list(headers))
    origin = fields.get("origin", "")
    if origin and origin.partition("://")[2] != fields.get("host"):
        return ""
    return cookie_parser("; ".join(fields.getlist("cookie"))).get(COOKIE, "")


def bearer_token(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the token of a request's ``Authorization``; empty without one, and for a key."""
    scheme, _, text = Headers(raw=list(headers)).get("authorization", "").partition(" ")
    # Tokens of addresses and JSON Web Tokens have fields with dots between them, keys seldom have.
    return text.strip() if scheme.lower() == "bearer" and text.count(".") >= LEAST_DOTS else ""


def client_of(scope: MutableMapping[str, Any]) -> str:
    """Return the address of a request's client; empty where it isn't known."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def addressed_token(scope: MutableMapping[str, Any]) -> str:
    """Return the token of a request's path or query; empty without one."""
    return str(scope.get(TOKEN, "")) or query_token(scope["query_string"].decode("latin-1"))


def unaddressed_token(headers: Sequence[tuple[bytes, bytes]], addressed: str = "") -> str:
    """Return the token of an address, or else of ``Authorization`` or cookies; empty without one."""
    return addressed or bearer_token(headers) or cookie_token(headers)
