"""ASGI middleware that writes every error below ``/relay/NAME/v1/`` as JSON of OpenAI's or Anthropic's form.

Clients of these servers print its message. Access control, the check of keys and the router refuse requests
with a line of plain text.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.token_relay.dialects import CHAT, MESSAGES, Dialect

LINE_BYTES = 4096
"""Most bytes of a refusal's line that the error repeats."""

_ADDRESS = re.compile(r"/relay/[^/]+/v1(?:/(messages(?:/|\Z))?|\Z)")
_REPLACED = frozenset((b"content-length", b"content-type"))


class OpenAIErrors:
    """Answers as the application does, with its errors in the clients' form at the addresses of relays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and (found := _ADDRESS.match(scope["path"])):
            send = _Rewriting(scope["method"], send, MESSAGES if found[1] else CHAT)
        await self._app(scope, receive, send)


class _Rewriting:
    """Sends an answer on; of an error in plain text the head waits for the line."""

    def __init__(self, method: str, send: Send, dialect: Dialect) -> None:
        self._has_body = method != "HEAD"
        self._dialect = dialect
        self._send = send
        self._head: Message | None = None
        self._line = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_plain_error(message):
            self._head = message
        elif self._head is None:
            await self._send(message)
        else:
            self._line += message.get("body", b"")[: LINE_BYTES - len(self._line)]
            if not message.get("more_body", False):
                await self._send_error(self._head)

    async def _send_error(self, head: Message) -> None:
        self._head, status = None, head["status"]
        text = self._line.decode("utf-8", "replace").strip()
        body = (self._dialect.write_refusal(text, status) + "\n").encode()
        kept = [(name, value) for name, value in head["headers"] if name.lower() not in _REPLACED]
        fields = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await self._send({**head, "headers": [*kept, *fields]})
        await self._send({"type": "http.response.body", "body": body if self._has_body else b""})


def _is_plain_error(head: Message) -> bool:
    kinds = [value for name, value in head.get("headers", ()) if name.lower() == b"content-type"]
    return head["status"] >= 400 and not any(kind.startswith(b"application/json") for kind in kinds)
