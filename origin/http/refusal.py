"""Plain text error responses."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response


def plain_refusal(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    """Make an error response of one line of text.

    Args:
        status: the status.
        line: the reason, without a line end.
        headers: further header fields, such as Cache-Control.
    """
    return PlainTextResponse(f"{line}\n", status, headers)
