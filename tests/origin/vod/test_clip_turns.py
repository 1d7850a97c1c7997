"""Texts of clips, whose bounds clients vary at will: few are written at once, and clients take turns."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from origin.vod.addresses import find_address
from origin.vod.cache_control import VodCaching
from origin.vod.contents import NO_MAKERS, VodContents
from packager.library.local_storage import Library, NotFoundError
from packager.threads import CrowdedError, ThreadLimits
from packager.vod import Titles
from packager.vod.limits import TitleLimits
from packager.vod.segments.clip import WHOLE, Clip, ClipError
from tests.origin.vod.vod_server import served
from tests.waiting import until

MEDIA, I_FRAMES, MANIFEST = "video/media.m3u8", "video/iframes.m3u8", "manifest.mpd"


class HeldTitles(Titles):
    """Titles that write no playlist of a clip before they are told to; they note whose are under way."""

    def __init__(self, library: Path, limits: TitleLimits) -> None:
        super().__init__(Library(library), limits)
        self.begun: list[Clip] = []
        self.go_on = threading.Semaphore(0)

    def media_playlist(self, name: str, track: str, clip: Clip = WHOLE) -> str:
        if clip != WHOLE:
            self.begun.append(clip)
            self.go_on.acquire()
        return super().media_playlist(name, track, clip)


CLIPS = TitleLimits().clips


def contents_of(library: Path, clips: ThreadLimits = CLIPS) -> tuple[VodContents, HeldTitles]:
    titles = HeldTitles(library, TitleLimits(clips=clips))
    return VodContents(titles, VodCaching(3600), NO_MAKERS), titles


async def ask(contents: VodContents, client: str, query: str, name: str = MEDIA) -> bytes:
    address = find_address(f"/vod/bframes.mp4/{name}{query}".encode())
    assert address is not None
    return (await contents.make(address, client)).data


async def test_clients_take_turns_with_texts_of_clips_and_whole_films_wait_for_none(library: Path) -> None:
    contents, titles = contents_of(library, replace(CLIPS, rest=0.0))
    many = [asyncio.create_task(ask(contents, "192.0.2.1", f"?start=0.{one}")) for one in range(1, 10)]
    await until(lambda: titles.begun)
    other = asyncio.create_task(ask(contents, "192.0.2.2", "?start=1"))
    await until(lambda: len(titles.begun) == 2)
    assert titles.begun[1] == Clip(start=Fraction(1)), "one client has no more than one of them at once"
    third = asyncio.create_task(ask(contents, "2001:db8::1", "?start=1.25"))
    assert (await ask(contents, "192.0.2.1", "")).startswith(b"#EXTM3U")
    assert (await ask(contents, "192.0.2.1", "?token=x&start=0")).startswith(b"#EXTM3U")
    assert len(titles.begun) == 2
    for _ in range(11):
        titles.go_on.release()
    await asyncio.gather(*many, other, third)
    # Who comes last goes next, or behind one of the first client's many.
    assert Clip(start=Fraction(5, 4)) in titles.begun[2:4]


@pytest.mark.parametrize("name", [MEDIA, I_FRAMES, MANIFEST, "master.m3u8"])
async def test_a_client_rests_behind_each_text_and_others_dont_wait(library: Path, name: str) -> None:
    contents, titles = contents_of(library, replace(CLIPS, rest=1000.0))
    titles.go_on.release(3)
    await ask(contents, "192.0.2.1", "", name)
    await ask(contents, "192.0.2.1", "?start=0.5", name)
    waiting = asyncio.create_task(ask(contents, "192.0.2.1", "?start=0.6", name))
    await ask(contents, "192.0.2.2", "?start=0.7", name)
    assert not waiting.done()
    waiting.cancel()


async def test_a_crowd_is_told_to_come_again(library: Path) -> None:
    contents, titles = contents_of(library, replace(CLIPS, waiting=2, rest=0.0))
    many = [asyncio.create_task(ask(contents, "192.0.2.1", f"?start=0.{one}")) for one in range(1, 6)]
    await until(lambda: sum(one.done() for one in many) == 2)
    for _ in many:
        titles.go_on.release()
    results = await asyncio.gather(*many, return_exceptions=True)
    assert [type(one) for one in results if isinstance(one, Exception)] == [CrowdedError] * 2


async def test_what_is_not_there_has_no_turn(library: Path) -> None:
    contents, titles = contents_of(library)
    address = find_address(b"/vod/nothing.mp4/video/media.m3u8?start=1")
    assert address is not None
    with pytest.raises(NotFoundError):
        await contents.make(address, "192.0.2.1")
    with pytest.raises(ClipError):
        await ask(contents, "192.0.2.1", "?start=never")
    assert titles.begun == []


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?token=abc&x=1", ""),
        ("?", ""),
        ("?%61=1", ""),
        ("?start=0", ""),
        ("?start=1&token=abc", "?start=1"),
        ("?token=abc&end=00:03.50", "?start=0&end=3.5"),
        ("?burn=1", "?start=0&burn=1"),
        # RFC 3986 §2.1, §6.2.2.2: the same name.
        ("?st%61rt=01.0&x=%61", "?start=1"),
    ],
)
def test_other_parameters_than_those_of_clips_give_the_same_content(query: str, kept: str) -> None:
    path = "/vod/film.mp4/video/media.m3u8"
    address = find_address((path + query).encode())
    assert address is not None
    assert address.content_target == (path + kept).encode()


@pytest.mark.parametrize(
    "path",
    [
        "film.mp4/thumbnails.vtt",
        "film.mp4/thumbnails.m3u8",
        "film.mp4/video/init.mp4",
        "film.mp4/subtitles/en.vtt",
        "film.playlist.json/master.m3u8",
    ],
)
def test_contents_that_depend_on_no_clip_are_the_same_for_every_query(path: str) -> None:
    address = find_address(f"/vod/{path.replace('film', 'f%69lm')}?start=1&%61=2&end=never".encode())
    assert address is not None
    assert address.content_target == f"/vod/{path}".encode()


def test_a_varied_query_writes_no_text_anew(library: Path) -> None:
    """The answer to one query is the answer to all; those of clips have their own."""
    with served(library) as server:
        whole = server.ask("bframes.mp4/video/media.m3u8").body
        clip = server.ask("bframes.mp4/video/media.m3u8?start=1").body
        assert server.ask("bframes.mp4/video/media.m3u8?x=1").body == whole != clip
        kept = len(server.handler._answers._entries)
        for number in range(20):
            assert server.ask(f"bframes.mp4/video/media.m3u8?x={number}").body == whole
            assert server.ask(f"bframes.mp4/video/media.m3u8?st%61rt=1&x={number % 2}").body == clip
            assert server.ask(f"%62frames.mp4/video/media.m3u8?%61={number}").body == whole
        assert len(server.handler._answers._entries) == kept
