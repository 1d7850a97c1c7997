"""Writes server-sent events (WHATWG HTML §9.2). Pure."""

from __future__ import annotations

import re

MEDIA_TYPE = "text/event-stream"

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
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
    if _NOT_IN_IDS.search(identity) or _LINE_ENDS.search(name):
        raise ValueError(f"not a name or an id of an event: {name!r}, {identity!r}")
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {identity}"] if identity else []
    # Most texts have no CR, and very many lines are put together much faster at once than one by one.
    text = _LINE_ENDS.sub("\n", data) if "\r" in data else data
    lines.append("data: " + text.replace("\n", "\ndata: "))
    # UTF-8 has no lone surrogates; "replace" makes them question marks.
    return "\n".join((*lines, "", "")).encode("utf-8", "replace")


def comment(text: str = "") -> bytes:
    """Write a comment, which readers ignore; it shows that the connection is alive."""
    return b": " + " ".join(_LINE_ENDS.split(text)).encode("utf-8", "replace") + b"\n\n"


def retry(milliseconds: int) -> bytes:
    """Set how long a reader waits before it reconnects."""
    return b"retry: %d\n\n" % milliseconds
