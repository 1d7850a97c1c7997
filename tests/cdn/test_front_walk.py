"""What fronts give to requests without a valid token: what the origin gives, and nothing that is kept.

Each request is sent to an address that nobody has asked for, and again after a viewer with a token has had it
from the front: no spelling of it gets the viewer's answer, and none takes it away from the viewer.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from origin.access.address_tokens import CLIP_PARAMETERS, SigningKeys
from tests.cdn.caches import KEYS as KEYS_FILE
from tests.cdn.caches import running
from tests.cdn.conftest import OLD
from tests.cdn.front_requests import Attempt, Spellings, as_it_is, clips, spelled, with_token, without_token
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

KEY, SECRET = "2026-11", "a-secret-of-november"
LINK_SECRET = "a secret of the site's own"
SEGMENT, FILE = "/vod/private/film.mp4/audio/0.m4s", "/media/private/film.mp4"
LIVE = "/live/demo/source/media.m3u8"
EXAMPLES = {
    "start": ("/vod/private/film.mp4/master.m3u8", "1"),
    "end": ("/vod/private/film.mp4/master.m3u8", "3"),
    "at": ("/live/demo/snapshot.jpg", "-1"),
    "delay": ("/live/demo/master.m3u8", "1"),
    "programme": ("/live/demo/master.m3u8", "show"),
}
"""An address and a value for each parameter that needs the right to clips."""

NUMBER = "@@"
SHOWN = 40

CHECKING = ("signed", "signed-varnish", "secure-link")
"""Fronts that check tokens or links, and keep one copy for all."""

KEEPING = ("nginx", "varnish", "trafficserver", "background")
PASSING = ("http2", "plain", "fleet", "caddy", "haproxy")
CHANGING = "/admin/stats"


class FrontAnswer(NamedTuple):
    """An answer, or a connection that was closed without one.

    Attributes:
        status: 0 without an answer.
        head: in lower case.
        body: as it is on the wire, perhaps in chunks.
    """

    status: int
    head: bytes
    body: bytes


@dataclass
class Front:
    """A front, and the origin behind it.

    Attributes:
        sent: how many requests the front was sent.
    """

    kind: str
    address: tuple[str, int]
    origin: tuple[str, int]
    keys: SigningKeys
    expires: int
    sent: int = 0
    leaks: list[str] = field(default_factory=list)

    def ask(self, attempt: Attempt) -> FrontAnswer:
        self.sent += 1
        return ask(self.address, attempt, encrypted=self.kind == "http2")

    def prefix(self, path: str) -> str:
        """Return what stands before a path in a viewer's addresses."""
        if self.kind == "secure-link":
            scope = "/".join(path.split("/")[:3])
            digest = md5(f"{self.expires}{scope} {LINK_SECRET}".encode(), usedforsecurity=False).digest()
            return f"/s/{urlsafe_b64encode(digest).decode().rstrip('=')},{self.expires}"
        return "" if "/open/" in path else f"/t/{self.viewer}"

    def viewed(self, address: str) -> Attempt:
        """Return a viewer's request."""
        return Attempt(f"{self.prefix(address)}{address}")

    @property
    def viewer(self) -> str:
        return self.keys.sign("", self.expires, "anna", allows_clips=True)

    def media(self, path: str) -> tuple[bytes, bytes]:
        """Return what shows that an answer is what viewers get, and all of it where it is always the same."""
        status, _, body = ask(self.origin, Attempt(f"/t/{self.viewer}{path}"))
        assert status == 200, path
        return (b"#EXTM3U", b"") if path.startswith("/live/") else (body[:64], body)

    def view(self, address: str, media: bytes, whole: bytes, behind: Attempt | None = None) -> bytes:
        """Send a viewer's request, and return the head of the answer, which has to be the origin's."""
        status, head, body = self.ask(self.viewed(address))
        if status != 200 or media not in body or (whole and body != whole):
            self.leaks.append(f"{address}: {status}, {len(body)} bytes for a viewer, behind {behind}")
        return head

    def report(self) -> None:
        """Fail with the requests whose answers were wrong."""
        leaks, self.leaks, sent, self.sent = self.leaks, [], self.sent, 0
        assert not leaks, "\n".join((f"{len(leaks)} of {sent}", *leaks[:SHOWN]))

    def check(self, attempt: Attempt, media: bytes, when: str) -> None:
        """Send a stranger's request, which gets what viewers get only where the origin gives it, too."""
        status, head, body = self.ask(attempt)
        expected = expectation(self.origin, attempt)
        # Caddy answers other hosts so.
        is_refused = not status or status >= 400 or b"\r\ncontent-length: 0\r\n" in head
        if (expected >= 400 and not is_refused) or (is_refused and media and media in body):
            self.leaks.append(f"{when}: {attempt}: {status} instead of {expected}")


_expected: dict[tuple[tuple[str, int], Attempt], int] = {}


def expectation(origin: tuple[str, int], attempt: Attempt) -> int:
    """Return the status with which the origin itself answers a request."""
    if (status := _expected.get((origin, attempt))) is None:
        status = _expected[origin, attempt] = ask(origin, attempt)[0] or 400
    return status


def ask(address: tuple[str, int], attempt: Attempt, *, encrypted: bool = False) -> FrontAnswer:
    target, fields, method = attempt
    host = () if any(line.startswith("Host:") for line in fields) else ("Host: stream.example",)
    lines = (f"{method} {target} HTTP/1.1", *host, "Connection: close", *fields)
    text = b""
    with socket.create_connection(address, CLIENT_SECONDS) as plain:
        plain.settimeout(CLIENT_SECONDS)
        # A front that gives up closes the connection.
        with _TLS.wrap_socket(plain) if encrypted else plain as connection, suppress(OSError):
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            while data := connection.recv(1 << 20):
                text += data
    head, _, body = text.partition(b"\r\n\r\n")
    return FrontAnswer(int(head[9:12]) if head.startswith(b"HTTP/1.") else 0, head.lower(), body)


_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short film, once for who has a token and once for everybody."""
    folder = tmp_path_factory.mktemp("library")
    for name in ("private", "open"):
        (folder / name).mkdir()
    short = folder / "private" / "film.mp4"
    words = ("ffmpeg", "-nostdin", "-v", "error", "-i", str(film()), "-t", "4", "-c", "copy", str(short))
    subprocess.run(words, check=True, timeout=CLIENT_SECONDS)
    shutil.copy(short, folder / "open" / "film.mp4")
    for name in ("private", "open"):
        os.utime(folder / name / "film.mp4", (OLD, OLD))
    return folder


@contextmanager
def serving(folder: Path, library: Path, cache: str) -> Iterator[ServerProcess]:
    folder.mkdir()
    config = folder / "headwater.toml"
    options = ('access = "signed"', "segment_duration = 1.0", "part_duration = 0.25", 'dvr = "5m"')
    config.write_text(
        f'[access]\nkeys = ["{KEY}:{SECRET}"]\ncache = "{cache}"\n'
        f'[library]\npath = "{library}"\nfolders = {{ "private" = "signed" }}\n'
        f'[server]\ndata = "data"\nnames = ["stream.example"]\ntrusted_proxies = ["127.0.0.1"]\n'
        + copied_channel("demo", *options)
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        now = int(time.time())
        show = [{"id": "show", "start": now - 60, "end": now + 3600, "title": "Show"}]
        httpx.put(f"{server.url}/live/demo/programmes", json=show, headers=BEARER).raise_for_status()
        token = SigningKeys([f"{KEY}:{SECRET}"]).sign("", now + 3600, allows_clips=True)

        def are_there() -> bool:
            """Return whether the origin has all examples."""
            asked = (
                (f"{server.url}/t/{token}{path}", {name: value}) for name, (path, value) in EXAMPLES.items()
            )
            return all(httpx.get(url, params=query).status_code < 400 for url, query in asked)

        wait_for(are_there, "the channel's past")
        yield server
    finally:
        assert server.stop() == 0


@pytest.fixture(scope="module")
def checked_origin(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("checked") / "origin", library, "front") as server:
        yield server


@pytest.fixture(scope="module")
def private_origin(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("private") / "origin", library, "none") as server:
        yield server


@pytest.fixture(scope="module")
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    server = request.getfixturevalue("checked_origin" if kind in CHECKING else "private_origin")
    keys, expires = SigningKeys([f"{KEY}:{SECRET}"]), int(time.time()) + 3600
    (folder / "cache").mkdir()
    if kind == "secure-link":
        (folder / "cache" / "secrets.conf").write_text(
            f'map "" $link_secret {{ default "{LINK_SECRET}"; }}\n'
            f'map "" $origin_token {{ default "{keys.sign("", expires, allows_clips=True)}"; }}\n'
        )
    url = server.url.removeprefix("http://") if kind == "fleet" else server.url
    with ExitStack() as stack:
        cache = stack.enter_context(running(kind, url, folder / "cache"))
        if kind == "signed-varnish":
            (folder / "proxy").mkdir()
            line = f"{KEY} {base64.b64encode(SECRET.encode()).decode()}\n"
            (folder / "proxy" / KEYS_FILE).write_text(line)
            origin = "http://{}:{}".format(*cache.address)
            cache = stack.enter_context(running("signed-haproxy", origin, folder / "proxy"))
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        yield Front(kind, cache.address, (host, int(port)), keys, expires)


def strangers(front: Front, address: str, spellings: Spellings) -> Iterator[Attempt]:
    """Return the requests of who has no token for an address, or one that isn't valid for it."""
    keys, now = front.keys, front.expires - 3600
    yield from without_token(address, spellings)
    yield from with_token(address, keys.sign("/vod/open", front.expires, allows_clips=True), spellings)
    for token in (
        keys.sign("", now - 60),
        keys.sign("", front.expires, client="192.0.2.7"),
        SigningKeys([f"{KEY}:another-secret-of-16"]).sign("", front.expires),
        SigningKeys([f"other:{SECRET}"]).sign("", front.expires),
        f"{front.viewer}.x",
        f"{front.viewer[:-2]}__",
        front.viewer.replace("v1.", "v2."),
        f"{front.viewer}%20",
        f"{front.viewer}?",
    ):
        yield Attempt(f"/t/{token}{address}")
        yield Attempt(address, (f"Authorization: Bearer {token}",))
        yield Attempt(f"{address}{'&' if '?' in address else '?'}token={token}")


def numbered(attempts: Iterable[Attempt]) -> Iterator[tuple[int, Attempt]]:
    """Yield requests with a number in the place of each `NUMBER`, so that each has an address of its own."""
    for number, (target, fields, method) in enumerate(attempts):
        text = str(number)
        fields = tuple(line.replace(NUMBER, text) for line in fields)
        yield number, Attempt(target.replace(NUMBER, text), fields, method)


def walk(front: Front, path: str, spellings: Spellings) -> None:
    """Send each request of strangers before and behind viewers, who all get what the origin gives."""
    media, whole = front.media(path)
    for number, attempt in numbered(strangers(front, f"{path}?n={NUMBER}", spellings)):
        front.check(attempt, media, "before a viewer")
        for cached in (b"x-cache: miss", b"x-cache: hit")[: 1 if number else 2]:
            head = front.view(f"{path}?n={number}", media, whole, attempt)
            # A live playlist is kept for half a second.
            if whole and cached not in head:
                front.leaks.append(f"{path}?n={number}: not {cached.decode()} behind {attempt}")
        front.check(attempt, media, "behind a viewer")


@pytest.mark.parametrize("front", CHECKING, indirect=True)
def test_what_viewers_have_had_kept_is_for_nobody_without_a_valid_token(front: Front) -> None:
    walk(front, SEGMENT, spelled)
    for path in (FILE, LIVE):
        walk(front, path, as_it_is)
    front.report()


@pytest.mark.parametrize("front", KEEPING, indirect=True)
def test_a_cache_that_checks_no_tokens_keeps_nothing_that_needs_one(front: Front) -> None:
    for path, spellings in ((SEGMENT, spelled), (FILE, as_it_is), (LIVE, as_it_is)):
        media, whole = front.media(path)
        for _ in range(2):
            front.view(path, media, whole)
        for attempt in strangers(front, path, spellings):
            front.check(attempt, media, "behind viewers")
    front.report()


@pytest.mark.parametrize("front", [*CHECKING, *KEEPING], indirect=True)
def test_no_spelling_of_an_address_takes_it_away_from_those_who_spell_it_right(front: Front) -> None:
    """Viewers themselves are who asks for these, with a token or a link of theirs where one is needed."""
    for path, spellings in ((SEGMENT, spelled), (FILE, as_it_is)):
        path = path if front.kind in CHECKING else path.replace("/private/", "/open/")
        media, whole = front.media(path)
        attempts = without_token(f"{path}?n=v{NUMBER}", spellings)
        for number, (target, fields, method) in numbered(attempts):
            attempt = Attempt(f"{front.prefix(path)}{target}", fields, method)
            front.ask(attempt)
            front.view(f"{path}?n=v{number}", media, whole, attempt)
    front.report()


@pytest.mark.parametrize("front", PASSING, indirect=True)
def test_a_front_that_keeps_nothing_passes_on_what_the_origin_refuses(front: Front) -> None:
    for attempt in strangers(front, SEGMENT, spelled):
        front.check(attempt, b"", "once")
    front.report()


@pytest.mark.parametrize("front", ["signed", "signed-varnish"], indirect=True)
def test_what_needs_the_right_to_clips_is_for_nobody_without_it(front: Front) -> None:
    assert set(EXAMPLES) == CLIP_PARAMETERS
    narrow = front.keys.sign("", front.expires, "bob")
    for name, (path, value) in EXAMPLES.items():
        for address in clips(path, name, value):
            attempt = Attempt(f"/t/{narrow}{address}")
            front.check(attempt, b"", "before a viewer")
            want = ask(front.origin, front.viewed(address))[0]
            got = [front.ask(front.viewed(address))[0] for _ in range(2)]
            if want < 400 and got != [want, want]:
                front.leaks.append(f"{address}: {got} for a viewer with the right to clips")
            front.check(attempt, b"#EXTM3U", "behind a viewer")
    front.report()


@pytest.mark.parametrize("front", ["signed", *KEEPING, "http2", "caddy", "haproxy"], indirect=True)
def test_what_a_get_changes_at_the_origin_is_out_of_reach_of_a_front(front: Front) -> None:
    # The origin itself refuses for want of a key.
    assert ask(front.origin, Attempt(CHANGING))[0] == 401
    for attempt in without_token(CHANGING, spelled):
        status, _, body = front.ask(attempt)
        if status == 401 or b"icestats" in body:
            front.leaks.append(f"{attempt}: {status}")
    front.report()
