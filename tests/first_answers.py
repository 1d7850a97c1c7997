"""Answers to targets as they are written: whole, or the beginning of those that have no end."""

from __future__ import annotations

from typing import NamedTuple

from tests.conformance.raw import Client
from tests.http2_client import Answer as Http2Answer
from tests.http2_client import Http2Client

LONG_FIELD = f"X-Padding: {'a' * 5000}"
"""A header field that makes a head too long for the faster way: the application answers then."""


EVENTS = b"text/event-stream"
ENDLESS = (EVENTS, b"audio/")


class FirstAnswer(NamedTuple):
    """The status of an answer, and all of its text, or the head and the first bytes of one without an end."""

    status: int
    text: bytes


def ask(url: str, target: str, *fields: str, events: int = 0) -> FirstAnswer:
    """Ask by HTTP/1.1 on a connection of its own, and read so many events of a channel."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *fields, "", ""]
    with Client((host, int(port))) as client:
        client.send("\r\n".join(lines))
        text = b""
        while not _is_enough(text, events) and (data := client.socket.recv(1 << 20)):
            text += data
    return FirstAnswer(int(text.split()[1]), text)


def ask_by_http2(url: str, target: str, *fields: str, events: int = 0) -> FirstAnswer:
    """As `ask`, by HTTP/2 with prior knowledge."""
    named = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    with Http2Client(url) as client:
        answer = client.answers[client.request(target, "GET", None, **named)]
        client.until(lambda: answer.is_over or _is_enough(_head(answer) + answer.body, events))
        return FirstAnswer(answer.status, _head(answer) + answer.body)


def _is_enough(text: bytes, events: int) -> bool:
    """Return whether this much of an answer without an end is enough."""
    head, end, body = text.partition(b"\r\n\r\n")
    if not end or not any(kind in head for kind in ENDLESS):
        return False
    return EVENTS not in head or body.count(b"\ndata: ") >= events


def _head(answer: Http2Answer) -> bytes:
    lines = "\r\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    return f"{lines}\r\n\r\n".encode("latin-1") if answer.headers else b""
