"""The answer of one line of text that says why there is no other."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response


def plain_refusal(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    """Refuse a request.

    Args:
        status: Of the answer.
        line: Says why, without a line end.
        headers: Fields of the answer, such as how long caches may keep it.
    """
    return PlainTextResponse(f"{line}\n", status, headers)
