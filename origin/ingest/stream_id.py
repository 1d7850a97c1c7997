"""Reads the stream ID with which an SRT publisher says to which channel it publishes, and with which key."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from media.errors import MalformedError, UnsupportedError

STANDARD = "#!::"
"""The prefix of a stream ID by SRT's access control guidelines."""


@dataclass(frozen=True, slots=True)
class StreamId:
    """The channel that an SRT publisher names, and the key that it presents.

    Attributes:
        channel: the name that is published to; whatever came.
        key: the key that is presented; empty for none.
    """

    channel: str
    key: str = field(repr=False)


def read_stream_id(text: str) -> StreamId:
    """Read ``publish:CHANNEL:KEY``, ``#!::r=CHANNEL,m=publish,s=KEY`` or ``CHANNEL?key=KEY``.

    A channel may be named as in RTMP's addresses, ``live/CHANNEL``.

    Raises:
        MalformedError: it names no channel.
        UnsupportedError: somebody wants to watch.
    """
    # ffmpeg 5.1 sends it as it stands in the address, where a # can't be.
    if text.startswith("%23"):
        text = unquote(text)
    if text.startswith(STANDARD):
        return _read_standard(text.removeprefix(STANDARD))
    mode, colon, rest = text.partition(":")
    if colon and mode in ("publish", "request", "read", "play"):
        if mode != "publish":
            raise UnsupportedError("nobody can watch over SRT")
        channel, _, key = rest.partition(":")
        return _checked(channel, key)
    # The key as it came: it may have a plus sign, which stands for itself here.
    channel, _, query = text.partition("?")
    keys = [one.removeprefix("key=") for one in query.split("&") if one.startswith("key=")]
    return _checked(channel, keys[0] if keys else "")


def _read_standard(text: str) -> StreamId:
    pairs = {name: value for name, _, value in (one.partition("=") for one in text.split(","))}
    # The guidelines' default is request, but callers that publish leave the mode out, too.
    if pairs.get("m", "publish") != "publish":
        raise UnsupportedError("nobody can watch over SRT: the mode is m=publish")
    if pairs.get("t", "stream") != "stream":
        raise UnsupportedError("only streams are taken: the type is t=stream")
    return _checked(pairs.get("r", ""), pairs.get("s", ""))


def _checked(channel: str, key: str) -> StreamId:
    channel = channel.removeprefix("/").removeprefix("live/")
    if not channel:
        raise MalformedError("the stream ID names no channel: publish:CHANNEL:KEY")
    return StreamId(channel, key)
