"""Reads a request for a chat completion, and refuses what no caller may ask the upstream server for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from origin.relay.limits import RequestLimits
from origin.responses.refusal import RefusalError

REDIRECTING = frozenset(
    ("api_base", "base_url", "api_key", "api_version", "api_type", "user_config", "custom_llm_provider")
)
"""Names of options by which some servers are told to ask another one, with a key of theirs."""

TEXTS = frozenset(
    ("messages", "tools", "functions", "response_format", "structured_outputs", "guided_json", "metadata")
)
"""Options whose content is the caller's own, with any names."""

COUNTS = ("n", "best_of")
TOKENS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request as the upstream server gets it.

    Attributes:
        body: as JSON.
        is_stream: whether it asks for a stream.
        digest: the same for requests with the same content.
    """

    body: bytes
    is_stream: bool
    digest: bytes


def read_request(raw: bytes, limits: RequestLimits, *, must_stream: bool) -> CompletionRequest:
    """Read a request.

    It is written anew for the upstream server: of a name that stands twice, both see the same value.

    Args:
        raw: its body.
        limits: of what it may ask for.
        must_stream: whether it becomes one for a stream in any case.

    Raises:
        RefusalError: it is refused.
    """
    try:
        options = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"the body isn't JSON: {str(error)[:200]}") from None
    if not isinstance(options, dict):
        raise RefusalError(400, "the body isn't a JSON object")
    _check(options, limits)
    is_stream = must_stream or options.get("stream") or False
    if not isinstance(is_stream, bool):
        raise RefusalError(400, "stream: true or false")
    options["stream"] = is_stream
    try:
        body = msgspec.json.encode(options)
        digest = hashlib.sha256(msgspec.json.encode(options, order="sorted")).digest()
    except RecursionError:
        raise RefusalError(400, "the body is nested too deeply") from None
    return CompletionRequest(body, is_stream, digest)


def _check(options: Mapping[str, object], limits: RequestLimits) -> None:
    messages = options.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= limits.messages:
        raise RefusalError(400, f"messages: 1 to {limits.messages} of them")
    for names, most in ((COUNTS, limits.choices), (TOKENS, limits.answer_tokens)):
        for name in names:
            _check_number(name, options.get(name), most)
    pending: list[object] = [{key: value for key, value in options.items() if key not in TEXTS}]
    seen = 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > limits.option_values:
            raise RefusalError(400, f"more than {limits.option_values} values in its options")
        if isinstance(value, dict):
            if named := REDIRECTING.intersection(value):
                raise RefusalError(400, f"{min(named)}: only the configuration says which server is asked")
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _check_number(name: str, value: object, most: int) -> None:
    # Python's true is the number 1, JSON's isn't.
    if value is not None and not (type(value) is int and 0 < value <= most):
        raise RefusalError(400, f"{name}: 1 to {most}")
