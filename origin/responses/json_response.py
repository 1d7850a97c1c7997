"""Responses with JSON that no cache keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.responses import Response

UNCACHED = {"cache-control": "no-store"}


ADDRESSES = frozenset(
    {
        "media",
        "hls",
        "dash",
        "mp4",
        "url",
        "events",
        "webvtt",
        "cover",
        "poster",
        "chapters",
        "thumbnails",
        "earlier_recordings",
    }
)
"""Keys whose values are paths on this server, or other things that begin with no slash."""


def based(value: Any, base: str, needs_base: Callable[[str], bool]) -> Any:
    """Return a JSON value some of whose addresses begin with a further path, such as that of a token.

    Args:
        needs_base: returns whether an address, percent-encoded, does.
    """
    if isinstance(value, list):
        return [based(one, base, needs_base) for one in value]
    if not isinstance(value, dict) or not base:
        return value
    return {
        key: f"{base}{one}"
        if key in ADDRESSES and isinstance(one, str) and one.startswith("/") and needs_base(one)
        else based(one, base, needs_base)
        for key, one in value.items()
    }


def as_json(value: object, status: int = 200) -> Response:
    """Answer with JSON that must not be cached."""
    return Response(msgspec.json.encode(value), status, UNCACHED, "application/json")
