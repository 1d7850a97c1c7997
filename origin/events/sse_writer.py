"""Writes server-sent events (WHATWG HTML §9.2). Pure."""

from __future__ import annotations

import re

MEDIA_TYPE = "text/event-stream"

_LINE_END = re.compile("[\r\n]")
_NOT_IN_IDS = re.compile("[\0\r\n]")


def event(data: str, *, name: str = "", identity: str = "") -> bytes:
    """Write one event.

    Args:
        data: any text; its line ends are converted to LF.
        name: of its type; "" for ``message``.
        identity: the Last-Event-ID that a reconnecting reader sends; "" leaves it unchanged.

    Raises:
        ValueError: the name has several lines, or the identity an invalid character.
    """
    # §9.2.6: an id with NUL is ignored, and a line ends at CR, LF or CRLF.
    if _NOT_IN_IDS.search(identity) or _LINE_END.search(name):
        raise ValueError(f"not a name or an id of an event: {name!r}, {identity!r}")
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {identity}"] if identity else []
    # A text may be nothing but ends of lines: a match or a line of its own for each would take seconds.
    lines.append("data: " + with_line_feeds(data).replace("\n", "\ndata: "))
    # UTF-8 has no lone surrogates; "replace" makes them question marks.
    return "\n".join((*lines, "", "")).encode("utf-8", "replace")


def comment(text: str = "") -> bytes:
    """Write a comment, which readers ignore; it shows that the connection is alive.

    No empty line follows, with which fetch-event-source would take it for a message.
    """
    return b": " + with_line_feeds(text).replace("\n", " ").encode("utf-8", "replace") + b"\n"


def retry(milliseconds: int) -> bytes:
    """Set how long a reader waits before it reconnects."""
    return b"retry: %d\n" % milliseconds


def with_line_feeds(text: str) -> str:
    """Return a text whose lines end at LF alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
