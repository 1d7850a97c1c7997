"""Error responses of one line of plain text."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import PlainTextResponse, Response

OPENING_RETRY_SECONDS = 1
"""Retry-After of what can't be opened now: mostly all descriptors are in use, for a moment."""

READING_RETRY_SECONDS = 2
"""Retry-After of a file that can't be read now, such as a film's or a recording's."""

FOLDER_RETRY_SECONDS = 5
"""Retry-After of a library whose folder can't be read now."""

ABSENT_FILE_SECONDS = 5
"""For how long caches may keep the answer that the library has no such thing, or none that can be served."""

ABSENT_LIVE_SECONDS = 2
"""For how long caches may keep the answer that there is no such channel or recording, which may come soon."""


def plain_refusal(status: int, reason: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Make an error response of one line of text; one of 5xx isn't kept unless the fields say for how long.

    Args:
        reason: the line, without its end; empty for the status's own phrase.
        headers: further header fields, such as Cache-Control.
    """
    kept = {"cache-control": "no-store"} if status >= HTTPStatus.INTERNAL_SERVER_ERROR else {}
    return PlainTextResponse(f"{reason or HTTPStatus(status).phrase}\n", status, {**kept, **(headers or {})})


def unavailable(retry_seconds: int, reason: str = "") -> Response:
    """Make the response 503 (RFC 9110 §15.6.4) for what is there but can't be had now; nobody keeps it.

    Args:
        retry_seconds: after which asking again is worthwhile.
        reason: the line, without its end; empty for the status's own phrase.
    """
    return plain_refusal(503, reason, {"retry-after": str(retry_seconds)})


def absent(max_age: int, reason: str = "", status: int = 404) -> Response:
    """Make the response that there is no such thing, which caches may keep for a while.

    Args:
        max_age: for how many seconds.
        reason: the line, without its end; empty for the status's own phrase.
        status: another one of 4xx where there is something, but none that can be had like this.
    """
    return plain_refusal(status, reason, {"cache-control": f"public, max-age={max_age}"})


class RefusalError(Exception):
    """A request is refused; the answer is this status with this line.

    Args:
        headers: further header fields of the answer, such as Retry-After.
    """

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.headers = headers or {}

    def response(self) -> Response:
        """Make the answer, which nobody keeps."""
        return plain_refusal(self.status, str(self), {"cache-control": "no-store", **self.headers})
