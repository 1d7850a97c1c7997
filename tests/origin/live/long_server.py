"""A server on a DVR of an hour that is longer than the live playlist, and its answers for some spans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8

from tests.conftest import ServerProcess, start_server
from tests.long_dvr import CONFIGURATION, PICTURES, RENDITIONS
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import ADMIN
from tests.waiting import wait_for

SECONDS = 3600
WINDOW_SECONDS = 240
"""Long enough for a slow machine to come so far before nothing is listed any more."""

WINDOW = f'playlist_window = "{WINDOW_SECONDS}s"'
SPANS = ((-3400, -3300), (-3000, -1500), (-2600, -2590.5), (-1900, -200), (-1200, -1190), (-300, -100))
"""Bounds before the end, in seconds: with gaps, with a change of the codec, over the edges of blocks."""

CLIPS = ((-3000, -2950), (-1000, -980), (-200, -190))
"""Bounds of spans without a change."""


@dataclass
class Long:
    """A server on a DVR of an hour, and what it said when all of that was listed.

    Attributes:
        options: further lines of its section.
        environment: its further variables.
        server: the one that was started last.
    """

    folder: Path
    until: float
    options: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    server: ServerProcess = field(init=False)
    listed: dict[str, tuple[int, bytes, str]] = field(init=False)

    def get(self, name: str) -> httpx.Response:
        return httpx.get(f"{self.server.url}/live/long/{name}", timeout=CLIENT_SECONDS)

    def keep(self, start: float, end: float) -> dict[str, Any]:
        """Have a span kept; return what its recording is, once it is there."""
        url, body = f"{self.server.url}/live/long/recordings", {"start": start, "end": end}

        def made() -> dict[str, Any]:
            answer = httpx.post(url, json=body, headers=ADMIN, timeout=CLIENT_SECONDS)
            assert answer.status_code in (201, 202), answer.text
            found: dict[str, Any] = answer.json().get("recording", {})
            return found

        return wait_for(made, "the recording of the span")

    def start(self, *lines: str) -> None:
        """Start a server with further options of the channel."""
        server = f'[server]\nport = 0\ndata = "data"\n{self.options}'
        text = "\n".join((f'{server}{CONFIGURATION}dvr = "2h"', *lines, ""))
        (self.folder / "headwater.toml").write_text(text)
        self.server = start_server(cwd=self.folder, env=self.environment)
        wait_for(lambda: self.get("720p/media.m3u8").status_code == 200, "the channel's past is listed")

    def answers(self) -> dict[str, tuple[int, bytes, str]]:
        """Return what is said of all spans: status, text, validator."""
        found = {}
        for name in self.names():
            answer = self.get(name)
            found[name] = answer.status_code, answer.content, answer.headers.get("etag", "")
        return found

    def names(self) -> Iterator[str]:
        for span in SPANS:
            query = self.query(*span)
            yield f"master.m3u8?{query}"
            yield f"manifest.mpd?{query}"
            yield from (f"{one}/media.m3u8?{query}" for one in RENDITIONS)
            yield from (f"{one}/iframes.m3u8?{query}" for one in PICTURES)
            yield f"thumbnails.vtt?{query}"
        yield from (f"clip.mp4?{self.query(*span)}" for span in CLIPS)

    def query(self, start: float, end: float) -> str:
        return f"start={self.until + start:.3f}&end={self.until + end:.3f}"

    def check_segments(self) -> None:
        """Assert that segments and init segments of the past are at their live addresses."""
        for name in (PICTURES[1], "audio"):
            address = f"{self.server.url}/live/long/{name}/media.m3u8?{self.query(-3000, -1500)}"
            found = m3u8.loads(httpx.get(address).text)
            whole = [one for one in found.segments if not one.gap_tag]
            assert len(whole) > 700
            for one in whole[::37]:
                answer = httpx.get(urljoin(address, one.uri))
                assert answer.status_code == 200
                assert answer.headers["etag"].strip('"') == f"{one.uri}-{len(answer.content):x}"
                ranged = httpx.get(urljoin(address, one.uri), headers={"range": "bytes=4-7"})
                assert ranged.content == b"moof"
            inits = {one.init_section.uri for one in whole if one.init_section is not None}
            assert len(inits) > 1, "the codec changes"
            assert all(httpx.get(urljoin(address, one)).content[4:8] == b"ftyp" for one in inits)

    def check_validators(self) -> None:
        """Assert that caches keep what has passed for ever, and nothing of which the beginning has gone."""
        names = "master.m3u8", "720p/media.m3u8", "720p/iframes.m3u8", "manifest.mpd", "clip.mp4"
        for name in names:
            answer = self.get(f"{name}?{self.query(-2600, -2590.5)}")
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable", name
            tag = answer.headers["etag"]
            assert not tag.startswith("W/"), name
            again = httpx.get(answer.url, headers={"if-none-match": tag}, timeout=CLIENT_SECONDS)
            assert (again.status_code, again.content) == (304, b""), name
            cut = self.get(f"{name}?{self.query(-5000, -3500)}")
            if name == "clip.mp4":
                assert cut.status_code == 302, "a file never gets shorter"
                continue
            assert (cut.status_code, "immutable" in cut.headers["cache-control"]) == (200, False), name
        cues = self.get(f"thumbnails.vtt?{self.query(-2600, -2590.5)}")
        assert "max-age=31536000" in cues.headers["cache-control"]

    def check_recording(self) -> str:
        """Assert that a span that is kept has its segments; return the address of its recording."""
        start, end = CLIPS[0]
        kept = self.keep(self.until + start, self.until + end)
        assert self.keep(self.until + start, self.until + end)["id"] == kept["id"]
        for name in RENDITIONS:
            of_span = m3u8.loads(self.get(f"{name}/media.m3u8?{self.query(start, end)}").text)
            recorded = m3u8.loads(self.get(f"recordings/{kept['id']}/{name}/media.m3u8").text)
            assert [one.uri for one in recorded.segments] == [one.uri for one in of_span.segments]
        address = f"recordings/{kept['id']}"
        uri = m3u8.loads(self.get(f"{address}/720p/media.m3u8").text).segments[3].uri
        assert self.get(f"{address}/720p/{uri}").content == self.get(f"720p/{uri}").content
        return address
