"""Reads a request for an answer, and refuses options that no caller may send upstream.

Requests with the same digest share one answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from origin.responses.refusal import RefusalError
from origin.token_relay.dialects import CHAT, MESSAGES, RESPONSES, Dialect
from origin.token_relay.limits import TokenRelayLimits

REDIRECTING = frozenset(
    ("api_base", "base_url", "api_key", "api_version", "api_type", "user_config", "custom_llm_provider")
)
"""Names of options that make some servers send the request to another one, with a key of theirs."""

TEXTS = (
    "messages",
    "tools",
    "functions",
    "response_format",
    "structured_outputs",
    "guided_json",
    "metadata",
    "input",
    "prompt",
    "documents",
    "instructions",
    "system",
    "text",
    "tool_choice",
    "format",
    "schema",
    "json_schema",
    "guided_choice",
    "prediction",
)
"""Options whose content is the caller's own, with any names; it is passed on unread."""

_Texts = msgspec.defstruct("_Texts", [(name, msgspec.Raw, msgspec.Raw(b"")) for name in TEXTS])
_TEXTS, _OPTIONS = msgspec.json.Decoder(_Texts), msgspec.json.Decoder(dict[str, msgspec.Raw])
COUNTS = ("n", "best_of")
TOKENS = ("max_tokens", "max_completion_tokens")

ANSWER_TOKENS = 1 << 20
"""Most tokens of an answer that a request may allow."""

OPTION_VALUES = 10_000
"""Most values in a request beside its messages and tools."""

OPTION_BYTES = 256 << 10
"""Most bytes of a request's options beside its texts, as JSON."""

TIDIED_BYTES = 512 << 10
"""Largest request whose white space is removed, by which equal requests are recognized."""


FORWARDED_FIELDS = (
    "openai-organization",
    "openai-project",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
    "traceparent",
    "tracestate",
)
"""Fields of a caller's request that go on to the upstream server; no others do."""

FIELD_CHARACTERS = 1024
"""Longest value of such a field."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to the upstream server.

    Attributes:
        path: below the base of the server's addresses.
        fields: of the caller's request, those that go on.
        on_asked: called with the host of each server that is asked.
        key: the caller's own, in place of the configured one; empty for none.
        user: the name of the token that was presented; empty for another key.
        model: that the server is asked for; empty without one.
    """

    body: bytes
    method: str = "POST"
    path: str = CHAT.path
    fields: tuple[tuple[str, str], ...] = ()
    on_asked: Callable[[str], None] | None = None
    key: str = field(default="", repr=False)
    user: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request as the upstream server gets it.

    Attributes:
        is_stream: whether it asks for a stream.
        digest: equal for requests with the same content.
        dialect: the API of the answer; None for what isn't streamed.
        fields: of the caller's request, those that go on.
        is_background: whether the answer goes on without readers.
        model: that the upstream server is asked for; empty without one.
        is_awaited: whether the caller gets the answer, and not only the beginning of a response.
        key: the caller's own for the upstream server; empty for none.
        user: the name of the token that was presented; empty for another key.
    """

    body: bytes
    is_stream: bool
    digest: bytes
    dialect: Dialect | None = CHAT
    fields: tuple[tuple[str, str], ...] = ()
    is_background: bool = False
    is_awaited: bool = True
    model: str = ""
    key: str = field(default="", repr=False)
    user: str = ""

    @property
    def upstream(self) -> UpstreamRequest:
        """The request as it is sent."""
        path = CHAT.path if self.dialect is None else self.dialect.path
        return UpstreamRequest(
            self.body, path=path, fields=self.fields, key=self.key, user=self.user, model=self.model
        )


def forwarded_fields(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return those fields of a request that go on to the upstream server."""
    found = ((name, headers.get(name, "")) for name in FORWARDED_FIELDS)
    return tuple(
        (name, value)
        for name, value in found
        if value and len(value) <= FIELD_CHARACTERS and value.isascii() and value.isprintable()
    )


def read_request(
    raw: bytes,
    limits: TokenRelayLimits,
    *,
    must_stream: bool,
    dialect: Dialect | None = CHAT,
    models: Mapping[str, str] = MappingProxyType({}),
) -> CompletionRequest:
    """Read a request.

    The request is written anew for the upstream server, so that of a repeated option both servers see the
    same value. Its texts, which may be long, are never parsed, and so cost next to nothing.

    Args:
        limits: limits of the options and texts.
        must_stream: whether the upstream request is for a stream in any case.
        dialect: the API of the answer, if that may be streamed.
        models: names of models at the upstream server, by those that callers use.

    Raises:
        RefusalError: the request is refused.
    """
    try:
        options = _read_options(raw)
    except msgspec.ValidationError:
        raise RefusalError(400, "the body isn't a JSON object") from None
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"the body isn't JSON: {str(error)[:200]}") from None
    _check(options, limits, has_messages=dialect in (CHAT, MESSAGES))
    if isinstance(model := options.get("model"), str):
        options["model"] = models.get(model, model)
    is_stream = must_stream or _flag(options, "stream")
    if is_stream and dialect is None:
        raise RefusalError(400, "stream: this address has no streams")
    # The relay itself goes on without the caller, whatever the upstream server knows of that.
    is_background = dialect is RESPONSES and _flag(options, "background")
    if is_background:
        del options["background"]
    if dialect is CHAT or is_stream or is_background:
        options["stream"] = is_stream or is_background
    try:
        body = msgspec.json.encode(options)
        digest = hashlib.sha256(msgspec.json.encode(options, order="sorted")).digest()
    except RecursionError:
        raise RefusalError(400, "the body is nested too deeply") from None
    return CompletionRequest(
        body,
        is_stream or is_background,
        digest,
        dialect,
        is_background=is_background,
        is_awaited=is_stream or not is_background,
        model=model if isinstance((model := options.get("model")), str) else "",
    )


def _flag(options: Mapping[str, object], name: str) -> bool:
    """Return an option that is true or false; absent or null is false.

    Raises:
        RefusalError: it is something else.
    """
    value = options.get(name) or False
    if not isinstance(value, bool):
        raise RefusalError(400, f"{name}: true or false")
    return value


def _read_options(raw: bytes) -> dict[str, object]:
    """Read the options of a request, its texts as JSON that isn't read.

    Raises:
        RefusalError: the others are too long.
        ValueError, RecursionError: it isn't JSON; ``msgspec.ValidationError`` if it is no object.
    """
    raw.decode()  # Parts that aren't parsed aren't checked for UTF-8 either.
    if len(raw) <= TIDIED_BYTES:
        # Without white space, so that callers with other libraries share an answer.
        raw = msgspec.json.format(raw, indent=-1)
    texts = _TEXTS.decode(raw)
    if len(raw) - sum(len(getattr(texts, name)) for name in TEXTS) > OPTION_BYTES:
        raise RefusalError(400, f"more than {OPTION_BYTES} bytes of options beside its texts")
    options = _OPTIONS.decode(raw)
    return {name: value if name in TEXTS else msgspec.json.decode(value) for name, value in options.items()}


def _check(options: Mapping[str, Any], limits: TokenRelayLimits, *, has_messages: bool) -> None:
    messages = bytes(options.get("messages", msgspec.Raw(b"")))
    # Each has a role, or the upstream server refuses it; in a text, the name's quotes would be escaped.
    if has_messages and not (messages.startswith(b"[") and 0 < messages.count(b'"role"') <= limits.messages):
        raise RefusalError(400, f"messages: 1 to {limits.messages} of them")
    for names, most in ((COUNTS, limits.choices), (TOKENS, ANSWER_TOKENS)):
        for name in names:
            # -1 is no limit to several servers.
            if not (names is TOKENS and type(value := options.get(name)) is int and value == -1):
                _check_number(name, options.get(name), most)
    pending: list[object] = [{key: value for key, value in options.items() if key not in TEXTS}]
    seen = 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > OPTION_VALUES:
            raise RefusalError(400, f"more than {OPTION_VALUES} values in its options")
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
