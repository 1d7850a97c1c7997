"""The errors of completions, for their readers and callers."""

from __future__ import annotations

import msgspec

OURS = frozenset((401, 403, 407))
"""Statuses about this server's own key, which callers can't change."""


KINDS = {429: "rate_limit_error", 401: "authentication_error", 404: "not_found_error"}
"""OpenAI's names for errors with these statuses; those of other requests are ``invalid_request_error``."""


class CompletionError(Exception):
    """There is no answer, or no more of it.

    Args:
        text: one line, without addresses and keys.
        upstream: status of the upstream server's answer, or a status that stands for its failure.
        body: the body of that answer, without keys.
        retry_after: the answer's Retry-After; empty without one.
    """

    def __init__(self, text: str, upstream: int = 502, body: str = "", retry_after: str = "") -> None:
        super().__init__(text)
        self._upstream = upstream
        self._body = body
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The status of the answer to the caller: the upstream server's, where that is about the request."""
        return 502 if self._upstream < 400 or self._upstream in OURS else self._upstream

    @property
    def data(self) -> str:
        """The error as JSON of OpenAI's form, also for the middle of a stream."""
        try:
            found = msgspec.json.decode(self._body)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and found.get("error"):
            # One line, as events of streams are.
            return msgspec.json.encode(found).decode()
        if isinstance(found, dict) and found.get("object") == "error":
            # As vLLM has sent them.
            return msgspec.json.encode({"error": found}).decode()
        return error_data(str(self), self._upstream)


def error_data(text: str, code: int, kind: str = "upstream_error") -> str:
    """Write an error as OpenAI's servers do."""
    error = {"message": text, "type": kind, "param": None, "code": code}
    return msgspec.json.encode({"error": error}).decode()


def kind_of(status: int) -> str:
    """Return OpenAI's name for an error of this server with a status."""
    return "server_error" if status >= 500 else KINDS.get(status, "invalid_request_error")
