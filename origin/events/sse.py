"""Server-sent events as they are written (WHATWG HTML §9.2). Pure."""

from __future__ import annotations

import re

MEDIA_TYPE = "text/event-stream"

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_NOT_IN_IDS = re.compile("[\0\r\n]")


def event(data: str, *, name: str = "", identity: str = "") -> bytes:
    """Write one event.

    Args:
        data: any text; its lines come out joined by LF, however they ended.
        name: what kind it is; "" for ``message``.
        identity: what a reader that comes again gives as Last-Event-ID; "" leaves that as it was.

    Raises:
        ValueError: the name has more than one line, or the identity has what none may have.
    """
    # §9.2.6: an id with NUL is ignored, and a line ends at CR, LF or CRLF.
    if _NOT_IN_IDS.search(identity) or _LINE_ENDS.search(name):
        raise ValueError(f"not a name or an id of an event: {name!r}, {identity!r}")
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {identity}"] if identity else []
    lines += [f"data: {line}" for line in _LINE_ENDS.split(data)]
    # UTF-8 has no lone surrogates; "replace" makes them question marks.
    return "\n".join((*lines, "", "")).encode("utf-8", "replace")


def comment(text: str = "") -> bytes:
    """Write a line that no reader is told of: it shows that the connection lives."""
    return b": " + " ".join(_LINE_ENDS.split(text)).encode("utf-8", "replace") + b"\n\n"


def retry(milliseconds: int) -> bytes:
    """Tell the reader how long to wait until it comes again when the connection is lost."""
    return b"retry: %d\n\n" % milliseconds
