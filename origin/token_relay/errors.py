"""Why a completion isn't there, as its readers and callers are told."""

from __future__ import annotations

import msgspec

OURS = frozenset((401, 403, 407))
"""Statuses that are about the key of this server, which its callers can do nothing about."""


class CompletionError(Exception):
    """There is no answer, or no more of it.

    Args:
        text: one line, without addresses and keys.
        upstream: status of the upstream server's answer, or what stands for it.
        body: of that answer, without keys.
        retry_after: when to come again, as it says; empty if it doesn't.
    """

    def __init__(self, text: str, upstream: int = 502, body: str = "", retry_after: str = "") -> None:
        super().__init__(text)
        self._upstream = upstream
        self._body = body
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The status of the answer to who asked: the upstream server's, where that is about the request."""
        return 502 if self._upstream < 400 or self._upstream in OURS else self._upstream

    @property
    def data(self) -> str:
        """The error as servers of this kind send it, also in the middle of a stream."""
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
