"""The addresses of VOD: films of any name, tracks, versions and names of segments; and what is no address."""

from __future__ import annotations

from fractions import Fraction

import pytest

from origin.vod.addresses import KEPT_BYTES, OF_CLIPS, Kind, find_address
from packager.vod.segments.clip import Clip, ClipError

FILM = "shows/pilot #1.mp4"
ENCODED = "shows/pilot%20%231.mp4"


@pytest.mark.parametrize(
    ("below", "kind", "track", "version", "numbers"),
    [
        ("master.m3u8", Kind.MULTIVARIANT_PLAYLIST, "", None, ()),
        ("manifest.mpd", Kind.MANIFEST, "", None, ()),
        ("chapters.json", Kind.CHAPTERS, "", None, ()),
        ("thumbnails.vtt", Kind.THUMBNAILS, "", None, ()),
        ("thumbnails.m3u8", Kind.THUMBNAIL_PLAYLIST, "", None, ()),
        ("thumbnails/12.jpg", Kind.SPRITE, "", None, (12,)),
        ("thumbnails/v_0a/12.jpg", Kind.SPRITE, "", "0a", (12,)),
        ("video/media.m3u8", Kind.MEDIA_PLAYLIST, "video", None, ()),
        ("audio-2/iframes.m3u8", Kind.I_FRAME_PLAYLIST, "audio-2", None, ()),
        ("video/init.mp4", Kind.INIT, "video", None, ()),
        ("video/v_0a/init.mp4", Kind.INIT, "video", "0a", ()),
        ("video/iframes.mp4", Kind.I_FRAMES, "video", None, ()),
        ("video/v_0a/iframes.mp4", Kind.I_FRAMES, "video", "0a", ()),
        ("video/iframes-0-900.mp4", Kind.CLIP_I_FRAMES, "video", None, (0, 900)),
        ("video/0.m4s", Kind.SEGMENT, "video", None, (0,)),
        ("video/v_0a/37.m4s", Kind.SEGMENT, "video", "0a", (37,)),
        ("vide%6f/%33.m4s", Kind.SEGMENT, "video", None, (3,)),
        ("video/3-0-900.m4s", Kind.SEGMENT, "video", None, (3, 0, 900)),
        ("subtitles/pt-BR.vtt", Kind.WHOLE_TEXT, "pt-BR", None, ()),
        ("subtitles/pt-BR/media.m3u8", Kind.TEXT_PLAYLIST, "pt-BR", None, ()),
        ("subtitles/pt-BR/v_0a/init.mp4", Kind.TEXT_INIT, "pt-BR", "0a", ()),
        ("subtitles/de/v_0a/3.m4s", Kind.TEXT_MP4_SEGMENT, "de", "0a", (3,)),
        ("subtitles/de/3-0-900.m4s", Kind.TEXT_MP4_SEGMENT, "de", None, (3, 0, 900)),
        ("subtitles/de/3.vtt", Kind.TEXT_SEGMENT, "de", None, (3,)),
        ("subtitles/de/3-5.vtt", Kind.TEXT_SEGMENT, "de", None, (3, 5)),
        ("subtitles/de/v_0a/3-5-9.vtt", Kind.TEXT_SEGMENT, "de", "0a", (3, 5, 9)),
        # A track may be called like another address.
        ("subtitles/media.m3u8", Kind.MEDIA_PLAYLIST, "subtitles", None, ()),
    ],
)
@pytest.mark.parametrize("folder", [ENCODED, ENCODED.replace("/", "%2F"), ENCODED.replace("p", "%70")])
def test_an_address_has_a_film_and_what_is_wanted_of_it(
    folder: str, below: str, kind: Kind, track: str, version: str | None, numbers: tuple[int, ...]
) -> None:
    address = find_address(f"/vod/{folder}/{below}".encode())
    assert address is not None
    found = (address.kind, address.film, address.track, address.version, address.numbers)
    assert found == (kind, FILM, track, version, numbers)
    # However the film's name was encoded, it is the same film.
    assert address.film_target == f"/vod/{ENCODED}".encode()
    is_of_film = below.endswith((".m4s", "iframes.mp4", "900.mp4")) and not below.startswith("subtitles/")
    assert address.is_of_film is is_of_film


@pytest.mark.parametrize(
    "target",
    [
        "/vod/",
        "/vod/master.m3u8",
        "/vod/film.mp4",
        "/vod/film.mp4/nothing",
        "/vod/film.mp4/master.m3u8/",
        "/vod/film.mp4/MASTER.M3U8",
        "/vod/film.mp4/masterxm3u8",
        "/vod/film.mp4/video/00.m4s",
        "/vod/film.mp4/video/-1.m4s",
        "/vod/film.mp4/video/123456789.m4s",
        "/vod/film.mp4/video/1-2.m4s",
        "/vod/film.mp4/video/1-2-0.m4s",
        "/vod/film.mp4/video/%D9%A3.m4s",
        "/vod/film.mp4/video/iframes-5.mp4",
        "/vod/film.mp4/thumbnails/100000.jpg",
        "/vod/film.mp4/thumbnails/video/1.jpg",
        "/media/film.mp4/master.m3u8",
        "/vod/film.mp4/video/1.m4s/video/x.m4s",
        "/vod/film.mp4?/video/1.m4s",
    ],
)
def test_what_is_no_address_is_none(target: str) -> None:
    assert find_address(target.encode()) is None


def test_what_begins_as_a_version_is_one_where_there_is_a_track_before_it() -> None:
    for target, film, track, version in (
        ("/vod/a/b/v_0a/0.m4s", "a", "b", "0a"),
        ("/vod/a/v_0a/0.m4s", "a", "v_0a", None),
    ):
        address = find_address(target.encode())
        assert address is not None
        assert (address.film, address.track, address.version) == (film, track, version)


def test_long_addresses_are_read_like_short_ones() -> None:
    name = "f" * KEPT_BYTES
    address = find_address(f"/vod/{name}/video/1.m4s".encode())
    assert address is not None
    assert (address.film, address.numbers) == (name, (1,))


def test_the_query_names_a_clip() -> None:
    def clip(query: str) -> Clip:
        address = find_address(f"/vod/film.mp4/master.m3u8{query}".encode())
        assert address is not None
        return address.clip

    assert clip("") == clip("?x=1") == Clip()
    assert clip("?start=1.5&end=%30%30:02:00") == Clip(Fraction(3, 2), Fraction(120))
    for query in ("?start=1&start=2", "?start=", "?end=never"):
        with pytest.raises(ClipError):
            clip(query)


SAMPLES = {
    Kind.THUMBNAILS: "thumbnails.vtt",
    Kind.THUMBNAIL_PLAYLIST: "thumbnails.m3u8",
    Kind.SPRITE: "thumbnails/v_1a/3.jpg",
    Kind.TEXT_PLAYLIST: "subtitles/en/media.m3u8",
    Kind.TEXT_INIT: "subtitles/en/v_1a/init.mp4",
    Kind.TEXT_MP4_SEGMENT: "subtitles/en/v_1a/3.m4s",
    Kind.TEXT_SEGMENT: "subtitles/en/v_1a/3.vtt",
    Kind.WHOLE_TEXT: "subtitles/en.vtt",
    Kind.CHAPTERS: "chapters.json",
    Kind.COVER: "cover.jpg",
    Kind.POSTER: "poster.jpg",
    Kind.MULTIVARIANT_PLAYLIST: "master.m3u8",
    Kind.MANIFEST: "manifest.mpd",
    Kind.MEDIA_PLAYLIST: "video/media.m3u8",
    Kind.I_FRAME_PLAYLIST: "video/iframes.m3u8",
    Kind.I_FRAMES: "video/v_1a/iframes.mp4",
    Kind.CLIP_I_FRAMES: "video/v_1a/iframes-3-9.mp4",
    Kind.INIT: "video/v_1a/init.mp4",
    Kind.SEGMENT: "video/v_1a/3.m4s",
}
"""An address of each kind below a film."""

WITHOUT_MEANING = (
    "",
    "?",
    "?x=1",
    "?%61=17",
    "?token=a&%74oken=b",
    "?start=0",
    "?st%61rt=00:00&x=%61",
    "?START=3",
)
"""Queries that ask for the whole film, in whatever spelling."""


@pytest.mark.parametrize("kind", Kind)
def test_what_an_address_is_made_for_varies_with_no_query_without_a_meaning(kind: Kind) -> None:
    path = f"/vod/a%20film.mp4/{SAMPLES[kind]}"
    spelled = f"/vod/%61%20f%69lm%2Emp4/{SAMPLES[kind].replace('e', '%65')}"
    for target in (name + query for name in (path, spelled) for query in WITHOUT_MEANING):
        address = find_address(target.encode())
        assert address is not None
        assert (address.kind, address.content_target) == (kind, path.encode()), target


@pytest.mark.parametrize("kind", Kind)
def test_only_contents_of_clips_depend_on_a_clips_times(kind: Kind) -> None:
    path = f"/vod/film.mp4/{SAMPLES[kind]}"
    queries = "?end=9&start=1.50", "?start=00:01.5&end=9.0"
    of_clip = [find_address(f"{path}{query}".encode()) for query in queries]
    targets = {one.content_target for one in of_clip if one is not None}
    assert targets == {(path + "?start=1.5&end=9" * (kind in OF_CLIPS)).encode()}
