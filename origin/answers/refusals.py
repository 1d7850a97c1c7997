"""Replies of one line of plain text, for requests that are refused."""

from __future__ import annotations

from http import HTTPStatus

from origin.answers.heads import PlainHead
from origin.answers.reply import Reply
from origin.answers.request import Request

OPENING_RETRY_SECONDS = 1
"""Retry-After of what can't be opened now: mostly all descriptors are in use, for a moment."""

READING_RETRY_SECONDS = 2
"""Retry-After of a file that can't be read now, such as a film's or a recording's."""

FOLDER_GONE = "The library's folder can't be read now."
"""Line for what is in a library whose folder has gone, such as a network share."""

FOLDER_RETRY_SECONDS = 5
"""Retry-After of a library whose folder can't be read now."""

ABSENT_FILE_SECONDS = 5
"""For how long caches may keep the answer that the library has no such thing, or none that can be served."""

ABSENT_LIVE_SECONDS = 2
"""For how long caches may keep the answer that there is no such channel or recording, which may come soon."""


def refusal(
    request: Request, status: int, max_age: int, reason: str = "", *, retry_after: int | None = None
) -> Reply:
    """Return the reply that refuses a request.

    Args:
        max_age: seconds for which caches may keep the reply; 0: not at all.
        reason: the line, without its end; empty for the status's own phrase.
        retry_after: seconds after which asking again is worthwhile.
    """
    fields = [(b"cache-control", b"public, max-age=%d" % max_age if max_age else b"no-store")]
    if retry_after is not None:
        # RFC 9110 §10.2.3: an earlier request gets this reply again, from a cache that keeps it.
        fields.append((b"retry-after", b"%d" % max(retry_after, max_age)))
    text = refusal_text(status, reason).encode()
    fields += ((b"content-length", b"%d" % len(text)), (b"content-type", b"text/plain; charset=utf-8"))
    return Reply(PlainHead(status, fields), (text,) if request.method == "GET" else ())


def refusal_text(status: int, reason: str = "") -> str:
    """Return the line that refuses a request: the reason, or the status's own phrase."""
    return f"{reason or HTTPStatus(status).phrase}\n"
