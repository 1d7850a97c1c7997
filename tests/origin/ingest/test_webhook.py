"""The administrator's own server allows or denies publishers, whatever their protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from origin.access.guess_delay import GuessDelay
from origin.access.publish_keys import PublishKeys
from origin.ingest.admission import IngestAdmission, RefusalReason, RefusedError
from origin.ingest.limits import IngestLimits
from origin.ingest.publish_webhook import PublishWebhook
from packager.sources.publication import Publisher
from packager.sources.published_source import PublishedSource
from tests.origin.ingest.rtmp_refusals import FLV, refused
from tests.origin.ingest.studio import KEY, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.permissions import live_authorization
from tests.ports import kept_port
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

TOKEN = "of-the-webhook-9a40"
ENDLESS = {"body": b"\r\n" + bytes(1 << 16), "fields": b"X-Filler: " + b"a" * (1 << 16) + b"\r\n"}
"""What is written again and again by the paths whose answers have no end."""

SOMEBODY = Publisher("rtmp", "192.0.2.1", "an encoder")


@dataclass
class Judge:
    """A server that is asked; a path such as ``/403`` is answered with that status.

    Attributes:
        asked: the bodies, in the order in which they came.
        goes_on: ``/silent`` is answered once it is set.
        given_up: the paths whose answers have no end, once nobody reads on.
    """

    port: int = 0
    asked: list[str] = field(default_factory=list)
    goes_on: threading.Event = field(default_factory=threading.Event)
    given_up: list[str] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@pytest.fixture
def judge() -> Iterator[Judge]:
    found = Judge()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
            path = self.path.strip("/").partition("?")[0]
            if path == "silent":
                found.goes_on.wait(CLIENT_SECONDS)
            if path in ENDLESS:
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not found.goes_on.is_set():
                        self.wfile.write(ENDLESS[path])
                found.given_up.append(path)
                return
            self.send_response(int(path) if path.isdecimal() else 200)
            self.send_header("location", "/200")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            found.goes_on.set()
            server.shutdown()
            thread.join()


@pytest.mark.clause("A webhook allows or denies a publisher before it hears yes")
def test_a_publisher_that_the_webhook_allows_is_on_air(tmp_path: Path, judge: Judge) -> None:
    with kept_port() as port:
        head = f'[server]\nrtmp_port = {port}\npublish_webhook = "{judge.url(f"204?token={TOKEN}")}"\n'
        with studio(tmp_path, "", head) as one:
            assert one.client.put(f"{one.address}?key=wrong", content=b"x").status_code == 401
            assert judge.asked == [], "who has no key is nobody's business"
            with encoding(*FLV, f"rtmp://127.0.0.1:{port}/live/studio?key={KEY}"):
                listed = one.wait_for_timeline()
                more = ["-method", "PUT", "-user_agent", "camera 7"]
                with encoding(*encoder_arguments().split(), *more, f"{one.address}?key={KEY}"):
                    one.wait_for_timeline(listed)
            text = one.server.text()
    rtmp, http = map(json.loads, judge.asked)
    assert rtmp.keys() == http.keys()
    assert (rtmp["channel"], rtmp["protocol"], rtmp["address"]) == ("studio", "rtmp", "127.0.0.1")
    expected = {"channel": "studio", "protocol": "http", "address": "127.0.0.1", "agent": "camera 7"}
    assert http == expected
    assert not [secret for secret in (KEY, TOKEN) if secret in "".join(judge.asked) + text]


@pytest.mark.promise("server.publish_webhook")
@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("403", 403, "denied it with 403"),
        ("500", 403, "denied it with 500"),
        ("302", 403, "denied it with 302"),
        ("gone", 503, "can't be reached"),
    ],
)
def test_a_publisher_is_told_why_the_webhook_lets_it_not_in(
    tmp_path: Path, judge: Judge, path: str, status: int, reason: str
) -> None:
    with kept_port() as port, kept_port() as nobody:
        url = f"http://127.0.0.1:{nobody}/" if path == "gone" else judge.url(path)
        head = f'[server]\nrtmp_port = {port}\npublish_webhook = "{url}"\n'
        with studio(tmp_path, "", head) as one:
            answer = one.client.put(f"{one.address}?key={KEY}", content=b"x")
            assert (answer.status_code, reason in answer.text) == (status, True)
            assert reason in refused([*FLV, f"rtmp://127.0.0.1:{port}/live/studio?key={KEY}"])
            assert one.channel()["publisher"]["publishers"] == 0


async def test_a_webhook_that_is_silent_or_asked_too_much_lets_nobody_in(judge: Judge) -> None:
    slow = PublishWebhook(judge.url("silent"), IngestLimits(webhook_seconds=0.2))
    with pytest.raises(RefusedError, match="in time"):
        await slow("studio", SOMEBODY)
    busy = PublishWebhook(judge.url("silent"), IngestLimits(webhook_requests=1, webhook_seconds=60))
    first = asyncio.create_task(busy("studio", SOMEBODY))
    await asyncio.sleep(0)
    with pytest.raises(RefusedError, match="too much"):
        await busy("studio", SOMEBODY)
    judge.goes_on.set()
    await first
    # There is room again, also behind those who have given up.
    await busy("studio", SOMEBODY)


@pytest.mark.clause("CWE-770")
async def test_an_answer_without_end_is_not_read(judge: Judge) -> None:
    await PublishWebhook(judge.url("body"))("studio", SOMEBODY)
    with pytest.raises(RefusedError, match="can't be reached"):
        await PublishWebhook(judge.url("fields"))("studio", SOMEBODY)
    await until(lambda: judge.given_up == ["body", "fields"])


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://nowhere.invalid/", "http://127.0.0.1:99999/"]
)
async def test_an_address_that_leads_nowhere_lets_nobody_in(url: str) -> None:
    with pytest.raises(RefusedError, match="can't be reached"):
        await PublishWebhook(url)("studio", SOMEBODY)


async def test_nobody_begins_without_the_answer_or_with_a_key_that_was_changed(judge: Judge) -> None:
    keys = PublishKeys({"studio": KEY})
    sources = {"studio": PublishedSource("studio")}
    door = IngestAdmission(
        sources,
        live_authorization(keys),
        GuessDelay(2, 5.0),
        IngestLimits(),
        PublishWebhook(judge.url("200")),
    )
    with pytest.raises(RefusedError) as told:
        door.begin("studio", SOMEBODY)
    assert told.value.reason is RefusalReason.DENIED
    approval = await door.approve("studio", SOMEBODY)
    with pytest.raises(RefusedError):
        door.begin("studio", Publisher("rtmp", "192.0.2.2"), approval=approval)
    door.begin("studio", SOMEBODY, approval=approval).end()
    keys.rotate({"studio": "another"})
    with pytest.raises(RefusedError) as told:
        door.begin("studio", SOMEBODY, approval=approval)
    assert told.value.reason is RefusalReason.WRONG_KEY
