"""The part of a route's path that is a live channel's name, which may have two segments."""

from __future__ import annotations

from starlette.convertors import StringConvertor, register_url_convertor

from origin.http.channel_patterns import LIVE_NAME


class LiveNameConvertor(StringConvertor):
    """Matches a live channel's name in a path."""

    regex = LIVE_NAME


register_url_convertor("live_name", LiveNameConvertor())

CHANNEL = "{channel:live_name}"
"""Starlette's parameter ``channel`` of a path."""
