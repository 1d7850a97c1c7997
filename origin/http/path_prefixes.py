"""The areas of a server's addresses, by the first segment of the path, and tokens before them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

AREAS = frozenset(
    {
        "media",
        "vod",
        "live",
        "radio",
        "status-json.xsl",
        "events",
        "relay",
        "api",
        "player",
        "embed",
        "health",
        "metrics",
    }
)
"""Areas that metrics name; the set is fixed, so that no client can make the metrics grow."""


TOKEN_PREFIX = "/t/"  # noqa: S105  # a path
"""Beginning of a path whose second segment is a token."""

TOKEN_SEGMENT = "[A-Za-z0-9._-]+"  # noqa: S105  # a pattern
"""The characters of a token; a path with others there has none.

Caches in front split paths by the same pattern. None of these characters has a second meaning to anybody.
"""

ADMIN = "/admin/"
"""Path below which GET changes something, as Icecast's clients expect."""


LISTS = ("/playlist.m3u", "/playlist.m3u8", "/guide.xml")
"""Paths of lists and guides for apps of televisions."""

VISITOR_ADDRESS = "/api/visitor"
"""Path at which the page finds out what it may show."""

ITEM_PREFIX = "/api/item/"
"""Beginning of the paths at which single items of the lists are described."""


_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_ENCODED_CONTROLS = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff])")

_TOKEN_PATH = re.compile(rf"{TOKEN_PREFIX}({TOKEN_SEGMENT})(/.*)", re.DOTALL)

# A web token begins with the Base64 of a brace.
_TOKEN = re.compile(rb"/t/(?:v1\.|e[w3y])[^/?#\s]*")


def split_token(path: str) -> tuple[str, str]:
    """Return the token of ``/t/TOKEN/…``, empty where there is none, and the path after it.

    Args:
        path: percent-encoded, perhaps with a query.
    """
    match = _TOKEN_PATH.fullmatch(path) if path.startswith(TOKEN_PREFIX) else None
    return ("", path) if match is None else (match[1], match[2])


def without_tokens(text: bytes) -> bytes:
    """Return a text such as Referer without the tokens of addresses."""
    return _TOKEN.sub(TOKEN_PREFIX.encode(), text)


def has_controls(path: str) -> bool:
    """Return whether a decoded path has control characters, which no address of this server has.

    To some readers such a path is another's address: a pattern's `$` matches before a line feed at the end.
    """
    return _CONTROLS.search(path) is not None


def has_encoded_controls(target: bytes) -> bool:
    """Return whether the path of a request target has percent-encoded control characters."""
    return _ENCODED_CONTROLS.search(target.partition(b"?")[0]) is not None


def area_of(path: str) -> str:
    """Name the area of a path: one of `AREAS`, ``page`` for the page, or ``other``."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    if first == "":
        return "page"
    return first if first in AREAS else "other"


def relay_path(path: str) -> str:
    """Return the path of the relay that an address belongs to; empty for any other address."""
    parts = path.split("/", 3)[:3]
    return "/".join(parts) if area_of(path) == "relay" and len(parts) > 2 else ""


def private_area(path: str) -> str | None:
    """Name the protectable area of a path: ``api``, ``health`` or ``metrics``; None for any other path."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    if path in LISTS or is_feed(path):
        return "api"
    # ISO/IEC 23009-1 §5.8.5.7: players on other sites set their clocks by /api/time.
    if first not in ("api", "health", "metrics") or path in ("/api/time", "/api/signed", VISITOR_ADDRESS):
        return None
    # An item is fetched by its address without the list, so its description is no secret.
    if path.startswith(ITEM_PREFIX):
        return None
    return first


def is_feed(path: str) -> bool:
    """Return whether a path is that of a feed of recordings."""
    return path.startswith("/recordings/") and path.endswith("/feed.xml")


def port_of(scope: Mapping[str, Any]) -> int:
    """Return the local port of a request by its ASGI scope; -1 if unknown."""
    server = scope.get("server")
    return server[1] if server and server[1] is not None else -1
