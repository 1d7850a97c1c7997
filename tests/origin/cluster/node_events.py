"""Readers and publishers of event channels of a cluster's nodes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator

import httpx

from tests.conftest import ServerProcess

EVENTS = """
[[events]]
name = "chat"
publish_token = "of-the-chat"
presence = true
"""

TOKEN = {"authorization": "Bearer of-the-chat"}


class SseReader:
    """A reader of server-sent events that goes on with the last id, wherever it is told to.

    Attributes:
        events: ids and data of those that came.
        kinds: types of all of them.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.kinds: list[str] = []
        self.last_id = ""

    @contextlib.contextmanager
    def reading(self, one: ServerProcess) -> Iterator[None]:
        """Read in a thread while the context is open."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": self.last_id} if self.last_id else {})
        with httpx.Client(timeout=60) as client:
            request = client.build_request("GET", f"{one.url}/events/chat", headers=headers)
            answer = client.send(request, stream=True)
            assert answer.status_code == 200
            thread = threading.Thread(target=self._read, args=(answer,))
            thread.start()
            try:
                yield
            finally:
                with contextlib.suppress(Exception):
                    # Closing alone doesn't wake who reads.
                    answer.extensions["network_stream"].get_extra_info("socket").shutdown(2)
                thread.join(60)
                answer.close()

    def _read(self, answer: httpx.Response) -> None:
        fields: dict[str, str] = {}
        with contextlib.suppress(httpx.HTTPError):
            for line in answer.iter_lines():
                if not line:
                    self._take(fields)
                    fields = {}
                name, _, value = line.partition(": ")
                fields[name] = value

    def _take(self, fields: dict[str, str]) -> None:
        if "data" not in fields:
            return
        self.last_id = fields.get("id", self.last_id)
        self.kinds.append(fields.get("event", "message"))
        if self.kinds[-1] == "message":
            self.events.append((self.last_id, fields["data"]))


def publish(one: ServerProcess, *texts: str) -> list[str]:
    lines = "".join(json.dumps({"data": text}) + "\n" for text in texts)
    kind = {"content-type": "application/x-ndjson"}
    answer = httpx.post(f"{one.url}/events/chat", content=lines, headers=TOKEN | kind, timeout=60)
    assert answer.status_code == 200, answer.text
    ids: list[str] = answer.json()["ids"]
    return ids
