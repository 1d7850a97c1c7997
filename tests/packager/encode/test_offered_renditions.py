"""The renditions that playlists of films and titles offer where some are copied and some are encoded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import m3u8
import pytest

from media.errors import UnsupportedError
from origin.cli.doctor import _films
from packager.encode.renditions import EncodedRenditions, renditions_of
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.vod.clip_sequence import ClipSequence
from packager.vod.segments.clip import WHOLE
from packager.vod.titles import Titles
from tests.packager.films import run_ffmpeg

PICTURE = "-f lavfi -i testsrc2=size=128x96:rate=10:duration=2"
TONE = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=2"
MAPPED = "-map 0 -map 1 -map 1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p"
LANGUAGES = "-metadata:s:a:0 language=eng -metadata:s:a:1 language=deu"


@pytest.mark.parametrize("codec", ["ac3", "dca -strict -2"], ids=["copied, too", "not copied"])
async def test_the_default_sound_of_a_film_is_the_default_where_it_is_encoded(
    codec: str, tmp_path: Path
) -> None:
    words = f"{PICTURE} {TONE} {MAPPED} -c:a:0 {codec} -c:a:1 aac {LANGUAGES}"
    await asyncio.to_thread(run_ffmpeg, *words.split(), tmp_path / "film.mkv")
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("auto", "x").tracks)
    text = await asyncio.to_thread(lambda: titles.multivariant_playlist("film.mkv", WHOLE).encode().decode())
    playlist = m3u8.loads(text)
    groups = {one.stream_info.audio: one.stream_info.codecs for one in playlist.playlists}
    assert [codecs.partition(",")[2] for codecs in groups.values()] == (
        ["ac-3,mp4a.40.2", "mp4a.40.2"] if codec == "ac3" else ["mp4a.40.2"]
    )
    # Every browser plays the last group, in which each language is there once.
    sounds = [one for one in playlist.media if one.type == "AUDIO" and one.group_id == list(groups)[-1]]
    assert [(one.language, one.default, one.uri.split("/")[-2]) for one in sounds] == [
        ("en", "YES", "audio-aac" if codec == "ac3" else "audio-2-aac"),
        ("de", "NO", "audio-2" if codec == "ac3" else "audio"),
    ]
    assert "Left out" not in text


async def test_the_refusal_of_a_film_names_its_encoded_sound_where_no_picture_is_left(tmp_path: Path) -> None:
    path = tmp_path / "film.mov"
    await asyncio.to_thread(run_ffmpeg, *f"{PICTURE} {TONE} -c:v mpeg4 -c:a pcm_s16le".split(), path)
    path.write_bytes(path.read_bytes().replace(b"mp4v", b"none"))
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("auto", "x").tracks)
    with pytest.raises(UnsupportedError, match=r"its sound alone is at audio-aac/media\.m3u8"):
        await asyncio.to_thread(titles.multivariant_playlist, path.name, WHOLE)
    sound = await asyncio.to_thread(titles.media_playlist, path.name, "audio-aac", WHOLE)
    assert "This is the sound alone" in sound


@pytest.mark.parametrize(
    ("sounds", "groups"),
    [
        # Without a language and a title, two sounds have the names of their places in the film.
        ("-c:a ac3 -metadata:s:a language=und", {"ac-3": ["audio", "audio-2"], "mp4a": ["audio", "audio-2"]}),
        (
            "-c:a ac3 -metadata:s:a language=eng",
            {"ac-3": ["English", "English (audio-2)"], "mp4a": ["English", "English (audio-2)"]},
        ),
    ],
)
async def test_a_sound_has_the_same_name_in_the_groups_of_all_codecs(
    sounds: str, groups: dict[str, list[str]], tmp_path: Path
) -> None:
    await asyncio.to_thread(run_ffmpeg, *f"{PICTURE} {TONE} {MAPPED} {sounds}".split(), tmp_path / "film.mkv")
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("auto", "x").tracks)
    text = await asyncio.to_thread(lambda: titles.multivariant_playlist("film.mkv", WHOLE).encode().decode())
    playlist = m3u8.loads(text)
    found: dict[str, list[str]] = {}
    for group in dict.fromkeys(one.group_id for one in playlist.media if one.type == "AUDIO"):
        codecs = next(one.stream_info for one in playlist.playlists if one.stream_info.audio == group).codecs
        codec = codecs.split(",")[-1].partition(".")[0]
        found[codec] = [one.name for one in playlist.media if one.group_id == group]
    assert found == groups


@pytest.mark.parametrize("codec", ["libx265 -x265-params log-level=none", "libx264"])
async def test_the_largest_file_of_a_title_is_encoded_where_no_picture_of_it_plays_everywhere(
    codec: str, tmp_path: Path
) -> None:
    words = f"{PICTURE} {TONE} -c:v {codec} -preset ultrafast -pix_fmt yuv420p -c:a ac3"
    for height in (64, 96):
        name = tmp_path / f"film.{height}p.mp4"
        await asyncio.to_thread(run_ffmpeg, *words.split(), "-vf", f"scale=-2:{height}", name)
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("auto", "x").tracks)
    text = await asyncio.to_thread(lambda: titles.multivariant_playlist("film", WHOLE).encode().decode())
    playlist = m3u8.loads(text)
    copied = ["../film.64p.mp4/video/media.m3u8", "../film.96p.mp4/video/media.m3u8"]
    encoded = [] if codec == "libx264" else ["../film.96p.mp4/video-96p/media.m3u8"]
    pictures = list(dict.fromkeys(one.uri for one in playlist.playlists if "audio" not in one.uri))
    assert pictures == [*copied, *encoded]
    assert {one.uri.split("/")[-2] for one in playlist.media if one.type == "AUDIO"} == {"audio", "audio-aac"}
    document = await asyncio.to_thread(titles.manifest, "film")
    assert document.count(b"video-96p/") == len(encoded)
    assert await asyncio.to_thread(titles.facts.is_encoded, "film")


@pytest.mark.clause("RFC 8216bis §6.2.4")
@pytest.mark.parametrize("sound", ["ac3", "aac"])
async def test_the_encoded_picture_of_a_title_lasts_as_long_as_its_longest_file(
    sound: str, tmp_path: Path
) -> None:
    """The largest file ends two seconds before the other one."""
    for height, seconds in ((96, 2), (64, 4)):
        inputs = PICTURE.replace("duration=2", f"duration={seconds}")
        inputs += " " + TONE.replace("duration=2", f"duration={seconds}")
        codecs = f"-c:v libx265 -x265-params log-level=none:keyint=20:min-keyint=20:scenecut=0 -c:a {sound}"
        words = f"{inputs} {codecs} -preset ultrafast -pix_fmt yuv420p -vf scale=-2:{height}"
        await asyncio.to_thread(run_ffmpeg, *words.split(), tmp_path / f"film.{height}p.mp4")
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("auto", "x").tracks)
    text = await asyncio.to_thread(lambda: titles.multivariant_playlist("film", WHOLE).encode().decode())
    playlist = m3u8.loads(text)
    listed = {one.uri for one in playlist.playlists} | {one.uri for one in playlist.media}
    assert any("/video-" in uri and "p/media" in uri for uri in listed)
    for uri in listed:
        _, name, track, _ = uri.split("/")
        told = m3u8.loads(await asyncio.to_thread(titles.media_playlist, name, track))
        assert sum(one.duration for one in told.segments) == pytest.approx(4, abs=0.1)


async def test_a_playlist_of_clips_has_the_encoded_renditions_of_what_browsers_lack(tmp_path: Path) -> None:
    for name, codecs in (
        ("old.mkv", "-c:v libx265 -x265-params log-level=none -c:a ac3"),
        ("new.mp4", "-c:v libx264 -c:a aac"),
    ):
        words = f"{PICTURE} {TONE} {codecs} -preset ultrafast -pix_fmt yuv420p"
        await asyncio.to_thread(run_ffmpeg, *words.split(), tmp_path / name)
    clips = [{"path": "old.mkv", "start": 0.5}, {"path": "new.mp4"}]
    (tmp_path / "both.playlist.json").write_text(json.dumps({"clips": clips}))
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("auto", "x").tracks)

    def text(kind: str, write: Callable[[ClipSequence], str | bytes]) -> str:
        def encoded(sequence: ClipSequence) -> bytes:
            found = write(sequence)
            return found if isinstance(found, bytes) else found.encode()

        return titles.sequence("both.playlist.json", kind, encoded).decode()

    master = await asyncio.to_thread(text, "master", lambda one: one.multivariant_playlist().render())
    (variant,) = m3u8.loads(master).playlists
    assert [codec.partition(".")[0] for codec in variant.stream_info.codecs.split(",")] == [
        "avc1",
        "avc1",
        "mp4a",
    ]
    assert variant.stream_info.average_bandwidth is None
    for track, (old, new) in (("video", ("video-96p", "video")), ("audio", ("audio-aac", "audio"))):
        segments = m3u8.loads(await asyncio.to_thread(text, track, _media_playlist(track))).segments
        folders = [one.uri.split("/")[:3] for one in segments]
        assert folders == [["..", "0", old], ["..", "1", new]]
    document = await asyncio.to_thread(text, "manifest", lambda one: one.manifest().render())
    assert "hvc1" not in document
    assert "ac-3" not in document


def _media_playlist(track: str) -> Callable[[ClipSequence], str]:
    def write(sequence: ClipSequence) -> str:
        found = sequence.media_playlist(track)
        assert found is not None
        return found.render()

    return write


def test_an_ffmpeg_that_maps_no_hdr_has_no_encoded_picture_of_it_and_the_doctor_says_so(
    tools: Tools, tmp_path: Path
) -> None:
    colours = "-pix_fmt yuv420p10le -color_primaries bt2020 -colorspace bt2020nc -color_trc smpte2084"
    coded = f"-c:v libx265 -preset ultrafast -x265-params log-level=none {colours} -c:a ac3"
    run_ffmpeg(*f"{PICTURE} {TONE} {coded}".split(), tmp_path / "hdr.mkv")
    lacking = replace(tools, filters=tools.filters - {"zscale"})

    def encoded(tools: Tools) -> list[str]:
        titles = Titles(Library(tmp_path), encoded=renditions_of("auto", tools).tracks)
        return [track.name for track in titles.files.find("hdr.mkv").index.encoded]

    assert encoded(tools) == ["video-96p", "audio-aac"]
    assert encoded(lacking) == ["audio-aac"]
    assert "HDR isn't encoded while it is watched" in _films(lacking).text
