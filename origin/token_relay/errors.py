"""The errors of completions, for their readers and callers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType

import msgspec

ERROR = "error"
"""Type of the events that are errors."""

OURS = frozenset((401, 403, 407))
"""Statuses about this server's own key, which callers can't change."""

CANCELLED = 499
"""Status that stands for an answer that was cancelled, as nginx has it."""

KINDS = {429: "rate_limit_error", 401: "authentication_error", 404: "not_found_error"}
"""OpenAI's names for errors with these statuses; those of other requests are ``invalid_request_error``."""


PASSED_FIELDS = ("retry-after", "retry-after-ms", "x-should-retry", "x-request-id", "request-id")
"""Fields of an error that go on to the caller: clients wait and ask again by them, and name the request."""


class CompletionError(Exception):
    """There is no answer, or no more of it.

    Args:
        text: one line, without addresses and keys.
        upstream: status of the upstream server's answer, or a status that stands for its failure.
        body: the body of that answer, without keys.
        fields: of that answer, those of `PASSED_FIELDS`.
        has_own_key: whether the caller's own key was presented to the upstream server.
    """

    def __init__(
        self,
        text: str,
        upstream: int = 502,
        body: str = "",
        fields: Mapping[str, str] = MappingProxyType({}),
        *,
        has_own_key: bool = False,
    ) -> None:
        super().__init__(text)
        self.upstream = upstream
        self._body = body
        self.fields = fields
        self._has_own_key = has_own_key

    @property
    def wait_seconds(self) -> float:
        """Seconds after which the server wants to be asked again; 0 where it doesn't say."""
        milliseconds, after = self.fields.get("retry-after-ms", ""), self.fields.get("retry-after", "")
        if milliseconds.isdecimal():
            return int(milliseconds) / 1000
        if after.isdecimal():
            return float(after)
        try:
            # RFC 9110 §10.2.3: a date, too.
            return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
        except (ValueError, OverflowError):
            return 0.0

    def later(self, seconds: float) -> CompletionError:
        """Return the same error for another caller, who is to wait for so many seconds."""
        fields = {name: value for name, value in self.fields.items() if not name.startswith("retry-after")}
        fields["retry-after"] = str(max(1, round(seconds)))
        return CompletionError(str(self), self.upstream, self._body, fields, has_own_key=self._has_own_key)

    @property
    def status(self) -> int:
        """The status of the answer to the caller: the upstream server's, where that is about the request."""
        is_ours = self.upstream in OURS and not self._has_own_key
        return 502 if self.upstream < 400 or is_ours else self.upstream

    @property
    def told(self) -> str:
        """The error as JSON as the upstream server has told it, in its own API's form; empty if it hasn't."""
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
        if isinstance(found, dict) and (line := _line_in(found)):
            return error_data(line, self.upstream)
        return ""

    @property
    def data(self) -> str:
        """The error as JSON of OpenAI's form, also for the middle of a stream."""
        return self.told or error_data(str(self), self.upstream)

    @property
    def line(self) -> str:
        """The upstream server's own line, or else this server's."""
        try:
            found = msgspec.json.decode(self.told)["error"]["message"]
        except (ValueError, LookupError, TypeError, RecursionError):
            found = None
        return found if isinstance(found, str) else str(self)


def _line_in(body: Mapping[str, object]) -> str:
    """Return the words of an error in another form than OpenAI's; empty for none."""
    # FastAPI and what is built with it has ``detail``, gateways have ``message``.
    for name in ("detail", "message", "error_description", "msg"):
        told = body.get(name)
        if isinstance(told, str) and told:
            return told
        if told:
            return msgspec.json.encode(told).decode()
    return ""


class DeadlineError(CompletionError):
    """The answer takes longer than it may."""


def error_data(text: str, code: int, kind: str = "upstream_error") -> str:
    """Write an error as OpenAI's servers do."""
    error = {"message": text, "type": kind, "param": None, "code": code}
    return msgspec.json.encode({"error": error}).decode()


ANTHROPIC_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
"""Anthropic's names for errors with these statuses."""


def anthropic_error_data(text: str, status: int) -> str:
    """Write an error as Anthropic's servers do."""
    other = "api_error" if status >= 500 or status == CANCELLED else "invalid_request_error"
    error = {"type": ANTHROPIC_KINDS.get(status, other), "message": text}
    return msgspec.json.encode({"type": ERROR, "error": error}).decode()


def kind_of(status: int) -> str:
    """Return OpenAI's name for an error of this server with a status."""
    return "server_error" if status >= 500 else KINDS.get(status, "invalid_request_error")
