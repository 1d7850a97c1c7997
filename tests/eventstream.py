"""Reads server-sent events as WHATWG HTML §9.2.6 says, for tests: whole streams, no state kept between."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    name: str
    data: str
    last_id: str


def read(stream: bytes) -> list[Message]:
    """Interpret an event stream; what isn't ended by an empty line is discarded."""
    text = stream.decode("utf-8").removeprefix("\ufeff")
    messages: list[Message] = []
    last_id, name, data = "", "", list[str]()
    for line in re.split(r"\r\n|\r|\n", text)[:-1]:
        if not line:
            if data:
                messages.append(Message(name or "message", "\n".join(data), last_id))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value
    return messages
