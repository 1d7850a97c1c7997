"""Requests that make or change a channel, and the description of one in answers. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from origin.events.created.open_channels import Template
from origin.events.created.records import SUBJECT, ChannelSettings, CreatedChannel
from origin.events.limits import ChannelLimits
from origin.http.channel_patterns import ALLOWED, RESERVED, is_name, is_template, template_of
from origin.responses.refusal import RefusalError

LATEST = 4_102_444_800.0
"""The year 2100 in seconds since the epoch: no channel ends later."""

_SPAN = re.compile(r"([0-9]{1,9})(s|m|h|d)?")
_UNITS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

_Keep = Annotated[int, Meta(ge=1, le=1_000_000)]
_Text = Annotated[str, Meta(max_length=200)]


class _ChangeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that changes a channel; what isn't there stays."""

    keep: _Keep | None = None
    keep_for: _Text | float | None = None
    expires: _Text | float | msgspec.UnsetType | None = msgspec.UNSET


class _PatchRequest(_ChangeRequest, frozen=True, forbid_unknown_fields=True):
    """The body of a request that changes a channel, and may replace its tokens."""

    new_tokens: Annotated[tuple[Literal["read", "publish"], ...], Meta(max_length=2)] = ()


class _CreationRequest(_ChangeRequest, frozen=True, forbid_unknown_fields=True):
    """The body of a request that makes a channel."""

    name: _Text = ""
    history: _Text | float | None = None


_WANTED, _CHANGES = msgspec.json.Decoder(_CreationRequest), msgspec.json.Decoder(_PatchRequest)


class ChannelChanges(Struct, frozen=True):
    """The settings and the end that a channel is to have, and which of its tokens are replaced."""

    settings: ChannelSettings
    expires: float
    new_tokens: frozenset[str] = frozenset()


class WantedChannel(Struct, frozen=True):
    """A channel that is to be made.

    Attributes:
        name: a name, or the pattern of an unguessable one.
    """

    name: str
    settings: ChannelSettings
    expires: float


def read_wanted(body: bytes, now: float, template_for: Callable[[str], Template | None]) -> WantedChannel:
    """Read the body of a request that makes a channel; an empty one asks for nothing in particular.

    Raises:
        RefusalError: 400.
    """
    try:
        wanted = _WANTED.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None
    name = wanted.name or "*"
    if not (is_name(name) or is_template(name)):
        raise RefusalError(
            400, f"name: {ALLOWED}, not below {RESERVED}; the last may be '*' for an unguessable one"
        )
    template = template_for(name)
    given = ChannelSettings() if template is None else template.settings
    settings = ChannelSettings(
        template_of(name) if template is not None else "",
        given.keep if wanted.keep is None else wanted.keep,
        given.keep_for if wanted.keep_for is None else _span("keep_for", wanted.keep_for),
        given.history if wanted.history is None else _span("history", wanted.history),
    )
    latest = math.inf if template is None else now + template.seconds
    expires = math.inf if isinstance(wanted.expires, msgspec.UnsetType) else _moment(wanted.expires, now)
    return WantedChannel(name, settings, min(expires, latest))


def read_changes(body: bytes, channel: CreatedChannel, now: float) -> ChannelChanges:
    """Read the body of a request that changes a channel.

    Raises:
        RefusalError: 400.
    """
    try:
        changes = _CHANGES.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None
    given, expires = channel.settings, changes.expires
    settings = ChannelSettings(
        given.template,
        given.keep if changes.keep is None else changes.keep,
        given.keep_for if changes.keep_for is None else _span("keep_for", changes.keep_for),
        given.history,
    )
    until = channel.expires if isinstance(expires, msgspec.UnsetType) else _moment(expires, now)
    return ChannelChanges(settings, until, frozenset(changes.new_tokens))


def described(channel: CreatedChannel, limits: ChannelLimits) -> dict[str, object]:
    """Describe a channel to its creator and the administrator, without its tokens."""
    settings = channel.settings
    return {
        "name": channel.name,
        "url": f"/events/{channel.name}",
        "creator": channel.creator.removeprefix(SUBJECT),
        "created": channel.made,
        "expires": None if math.isinf(channel.expires) else channel.expires,
        "keep": settings.keep,
        "keep_for": settings.keep_for,
        "keep_bytes": limits.history_bytes,
        "history": settings.history,
    }


def _malformed(error: Exception) -> RefusalError:
    reason = str(error).replace("\n", " ")[:200]
    return RefusalError(400, f"not a channel: {reason}")


def _span(key: str, value: str | float) -> float:
    """Return a span of time in seconds.

    Raises:
        RefusalError: 400.
    """
    if isinstance(value, str):
        found = _SPAN.fullmatch(value)
        value = -1.0 if found is None else float(found[1]) * _UNITS[found[2]]
    if not 0 <= value < LATEST:
        raise RefusalError(400, f"{key}: a number of seconds, or a duration such as 90s, 30m, 2h, 1d")
    return float(value)


def _moment(value: str | float | None, now: float) -> float:
    """Return a moment in seconds since the epoch of Unix; infinite for None.

    Raises:
        RefusalError: 400.
    """
    if value is None:
        return math.inf
    if isinstance(value, str):
        found = _SPAN.fullmatch(value)
        value = _date(value) if found is None else now + float(found[1]) * _UNITS[found[2]]
    if not now < value <= LATEST:
        allowed = "seconds since 1970, a date such as 2026-11-26T20:14:03Z, or a duration such as 2h"
        raise RefusalError(400, f"expires: {allowed}, and to come")
    return float(value)


def _date(text: str) -> float:
    """Return a date (RFC 3339 §5.6) in seconds since the epoch; -1 for none."""
    try:
        date = datetime.fromisoformat(text)
        return -1.0 if date.tzinfo is None else date.timestamp()
    except (ValueError, OverflowError):
        return -1.0
