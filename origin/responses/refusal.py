"""Error responses of one line of plain text, from what only the application answers."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import PlainTextResponse, Response

from origin.answers.refusals import refusal_text

STORAGE_RETRY = {"retry-after": "5"}
"""Field of a 503 where a disk, S3 or Redis can't take a change for now."""


def plain_refusal(status: int, reason: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Make an error response of one line of text; one of 5xx isn't kept unless the fields say for how long.

    Args:
        reason: the line, without its end; empty for the status's own phrase.
        headers: further header fields, such as Cache-Control.
    """
    kept = {"cache-control": "no-store"} if status >= HTTPStatus.INTERNAL_SERVER_ERROR else {}
    fields = kept if headers is None else {**kept, **headers}
    return PlainTextResponse(refusal_text(status, reason), status, fields)


class RefusalError(Exception):
    """A request is refused; the answer is this status with this line.

    Args:
        headers: further header fields of the answer, such as Retry-After.
    """

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.headers = {} if headers is None else headers

    def response(self) -> Response:
        """Make the answer, which nobody keeps."""
        return plain_refusal(self.status, str(self), {"cache-control": "no-store", **self.headers})
