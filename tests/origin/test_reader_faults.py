"""A fault in the reading of what a film, a publisher or a guide has costs that alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from starlette.testclient import TestClient

import origin.programmes.bodies
import packager.vod.film_segments
from media.xmltv.reader import XmltvLimits
from origin.ingest.feeding import FeedEnd, Feeding
from origin.programmes.bodies import read_guide
from origin.responses.refusal import RefusalError
from packager.library.local_storage import Library
from packager.sources.publication import Publisher
from packager.sources.published_source import PublishedSource
from packager.vod import Titles
from packager.vod.film_texts import FilmTexts
from tests.origin.vod.conftest import put, vod_application
from tests.packager import films


def fail(*_: Any, **__: Any) -> NoReturn:
    raise IndexError("a fault of the reader")


def test_a_fault_of_any_reader_of_a_film_is_422_for_this_address_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "film.mp4", films.film("bframes.mp4").read_bytes())
    client = TestClient(vod_application(Titles(Library(tmp_path))))
    assert client.get("/vod/film.mp4/video/0.m4s").status_code == 200
    monkeypatch.setattr(packager.vod.film_segments, "make_segment", fail)
    monkeypatch.setattr(FilmTexts, "chapters", fail)
    for address in ("video/1.m4s", "chapters.json"):
        answer = client.get(f"/vod/film.mp4/{address}")
        assert answer.status_code == 422
        assert "its content has led to a fault of the reader (IndexError)" in answer.text
    assert client.get("/vod/film.mp4/master.m3u8").status_code == 200


async def test_a_fault_of_a_demuxer_disconnects_the_publisher_with_the_reason() -> None:
    source = PublishedSource("studio")
    publication = source.begin(Publisher("http", "192.0.2.1"))

    async def receive() -> bytes:
        return fail()

    end, reason = await Feeding(lambda _: 10.0).run(publication, receive)
    assert end is FeedEnd.UNREADABLE
    assert reason.startswith("not a stream that can be published: its content has led to a fault")
    source.begin(Publisher("http", "192.0.2.2"))  # the channel goes on


def test_a_fault_in_a_guide_is_400(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin.programmes.bodies, "read_xmltv", fail)
    with pytest.raises(RefusalError, match="fault of the reader") as refused:
        read_guide(b"<tv/>", "news", XmltvLimits())
    assert refused.value.status == 400


def test_a_film_that_ends_within_a_key_frame_is_422_whatever_its_sounds_times_are(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    words = "-f lavfi -i testsrc2=size=64x36:rate=10:duration=3 -f lavfi -i sine=duration=3"
    words += " -c:v libx264 -preset ultrafast -g 10 -c:a aac -movflags +faststart"
    films.run_ffmpeg(*words.split(), path)
    data = bytearray(path.read_bytes())
    # The sound is so short that its end isn't after that of the file.
    data[data.rindex(b"mdhd") + 16] = 0x40
    answers = dict[str, int]()
    for length in range(len(data) // 3, len(data), 200):
        put(path, bytes(data[:length]))
        client = TestClient(vod_application(Titles(Library(tmp_path))))
        answer = client.get("/vod/film.mp4/video/iframes.mp4")
        answers["" if answer.is_success else answer.text[:40]] = answer.status_code
    assert answers == {"": 200, "film.mp4 can't be packaged: the file end": 422}
