"""Damaged files of a library cost themselves alone: those beside them stay whole, and no reader fails."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urljoin

import httpx
import pytest
from structlog.testing import capture_logs

import packager.reader_guard
from packager.process.ffmpeg_discovery import Tools
from tests.fuzzing.containers import INPUTS, boxes, encoded, fragmented_seeds, portions
from tests.fuzzing.formats import films, lines, sounds
from tests.fuzzing.mutation import Mutator, Parts
from tests.fuzzing.oggs import ogg_films, whole_page
from tests.fuzzing.text_of_films import ASS, subtitled
from tests.keys import ADMIN_TOKEN, BEARER
from tests.origin.vod.conftest import put
from tests.own_server import own_server
from tests.packager.films import film
from tests.patience import CLIENT_SECONDS

pytestmark = pytest.mark.timeout(600)

CONFIGURATION = f"""
[server]
admin_token = "{ADMIN_TOKEN}"
data = "{{folder}}/data"

[library]
path = "{{folder}}/library"
encode = "auto"
"""

DAMAGED = 2
"""Files of each kind."""

AT_ONCE = 6

FOLLOWED = 5
"""Addresses of each playlist that are asked for."""

GOOD = ("bframes.mp4", "sound.m4a", "silent.mp4")

NAMES = (
    *("master.m3u8", "manifest.mpd", "chapters.json", "thumbnails.vtt", "subtitles/en.vtt"),
    *("video/media.m3u8", "video/iframes.m3u8", "video/media.m3u8?start=0.2", "manifest.mpd?start=0.1"),
)

SUBTITLES = "1\n00:00:00,000 --> 00:00:00,300\n{\\an8}<i>One</i>\n\n2\n00:00:00,400 --> 00:00:00,500\nTwo\n"


def movies(folder: Path) -> list[Parts]:
    """Return tiny films in MP4, in parts of which those of the tables are the smallest."""
    made = list[Parts]()
    for words in ("-c:v libx264 -bf 1 -c:a aac -ar 8000 -movflags faststart", "-vn -c:a aac -ar 8000"):
        path = folder / "seed.mp4"
        command = f"ffmpeg -nostdin -v error -y {INPUTS} {words} {path}"
        subprocess.run(command.split(), check=True)
        found = boxes(path.read_bytes())
        path.unlink()
        made.append([part for one in found for part in portions(one, 1 << 12 if b"mdat" in one[:8] else 32)])
    return made


def seeds(folder: Path) -> list[tuple[str, Parts]]:
    """Return the files that are damaged, with the endings of their names."""
    endings = ("mp4", "mkv", "ts", "ts", "mpg", "avi", "avi", "flv", "wmv", "mkv")
    kinds: dict[str, Sequence[Parts]] = {
        "mp4": movies(folder),
        "m4v": fragmented_seeds(),
        "mkv": [portions(subtitled(), 16)],
        "ogv": ogg_films(),
        "mp3": sounds(),
        "srt": [lines(SUBTITLES)],
        "vtt": [lines("WEBVTT\n\n" + SUBTITLES.replace(",", "."))],
        "ass": [lines(ASS)],
    }
    found = [*zip(endings, films(), strict=True)]
    found += [(ending, seed) for ending, made in kinds.items() for seed in made]
    sound = (("flac", "flac", "flac"), ("pcm_u8 -ar 8000", "wav", "wav"), ("wmav2 -ar 44100", "asf", "wma"))
    found += [(ending, portions(encoded(f"-vn -c:a {codec}", kind))) for codec, kind, ending in sound]
    return found


def fill(library: Path) -> list[str]:
    """Put damaged files into a library, beside good ones; return the names of the former, films alone."""
    names, intact = list[str](), film("bframes.mp4").read_bytes()
    for number, (ending, seed) in enumerate(seeds(library)):
        mend = whole_page if ending == "ogv" else bytes
        damaged = Mutator([seed], (), mend, Random(number))
        for turn in range(DAMAGED):
            stem, data = f"{number}-{turn}", b"".join(damaged.make())
            if ending in ("srt", "vtt", "ass"):
                put(library / f"{stem}.en.{ending}", data)
                put(library / f"{stem}.mp4", intact)
                names.append(f"{stem}.mp4")
            else:
                put(library / f"{stem}.{ending}", data)
                names.append(f"{stem}.{ending}")
    for name in GOOD:
        put(library / name, film(name).read_bytes())
    return names


class Walk:
    """Requests for all that a film has, and their statuses."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.statuses = Counter[int]()

    async def ask(self, path: str) -> httpx.Response:
        answer = await self._client.get(path)
        self.statuses[answer.status_code] += 1
        return answer

    async def film(self, name: str) -> dict[str, tuple[int, bytes]]:
        """Ask for a film's texts and first segments, and return the answers."""
        found, wanted = dict[str, tuple[int, bytes]](), [f"/vod/{quote(name)}/{one}" for one in NAMES]
        async with self._turns:
            while wanted:
                path = wanted.pop(0)
                if path in found:
                    continue
                answer = await self.ask(path)
                found[path] = answer.status_code, answer.content
                if answer.text.startswith("#EXTM3U"):
                    uris = re.findall(r'URI="([^"]+)"|^([^#\s].*)$', answer.text, re.MULTILINE)
                    wanted += [urljoin(path, one or other) for one, other in uris[:FOLLOWED]]
        return found


@pytest.fixture
async def client(tmp_path: Path, tools: Tools) -> AsyncIterator[httpx.AsyncClient]:
    configuration = tmp_path / "headwater.toml"
    configuration.write_text(CONFIGURATION.format(folder=tmp_path))
    async with own_server(configuration, tools) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=url, headers=BEARER, timeout=CLIENT_SECONDS) as client:
            yield client


@pytest.fixture
def damaged(tmp_path: Path) -> list[str]:
    (tmp_path / "library").mkdir()
    return fill(tmp_path / "library")


@pytest.mark.clause("Damaged films are read or refused, within the limits")
async def test_damaged_files_of_each_kind_cost_themselves_alone(
    damaged: list[str], client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packager.reader_guard, "_logged", set())
    walk = Walk(client)
    before = [await walk.film(name) for name in GOOD]
    with capture_logs() as logs:
        await asyncio.gather(*map(walk.film, damaged))
        listed = await inspected(client)
    assert [await walk.film(name) for name in GOOD] == before
    assert not [line for line in logs if line["log_level"] in ("error", "critical")]
    # A file is complained about once for each of its parts, however often it is asked for.
    repeated = Counter(str(line) for line in logs if line["log_level"] == "warning")
    assert not [line for line, count in repeated.items() if count > 1]
    assert set(walk.statuses) <= {200, 400, 404, 415, 422}, walk.statuses
    assert listed.keys() >= {*damaged, *GOOD}
    assert all(listed[name]["duration"] for name in GOOD)


async def inspected(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """Return the library's files by their paths, once each has been inspected."""
    async with asyncio.timeout(CLIENT_SECONDS):
        while True:
            listed = (await client.get("/api/library")).json()
            if all(one["playable"] is not None for one in listed if one["kind"] == "file"):
                return {one["path"]: one for one in listed}
