"""Ogg: ffmpeg decodes fragments of a film's packets as it decodes the film, whatever its pages are like."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random

import pytest

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.ogg.movie import OggFileLimits, read_ogg
from media.ogg.page import CONTINUED, FIRST, LAST, Page, PageReader, paginate
from packager.vod.index.index_builder import read_index
from tests.packager.films import Packet, packets
from tests.packager.vod.avi_files import read_avi_file
from tests.packager.vod.decoded_tracks import (
    assert_pictures_are_alike,
    encoded_film,
    fragmented,
    indexed,
    pictures,
    sound,
)
from tests.packager.vod.vod_titles import titles_of

THEORA, VORBIS = "-c:v libtheora -g 30", "-c:a libvorbis"
WEB = f"{THEORA} {VORBIS}"
ODD = "-s 162x122 -aspect 2 -r 30000/1001"
LONGEST_PACKET = 2880
"""Samples of the longest packet of sound."""

SAMPLE_BYTES = 4


def read_of(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


def pages_of(data: bytes) -> list[Page]:
    reader = PageReader()
    reader.receive_data(data)
    reader.receive_eof()
    return list(reader.pages())


def written(name: str, pages: list[Page], folder: Path) -> Path:
    path = folder / name
    path.write_bytes(b"".join(page.serialize() for page in pages))
    return path


@pytest.mark.parametrize(
    ("name", "words", "copied", "encoded"),
    [
        ("web.ogv", WEB, [], ["video", "audio"]),
        ("new.ogv", f"{THEORA} -c:a libopus", ["audio"], ["video"]),
        ("lossless.ogg", f"{THEORA} -c:a flac", ["audio"], ["video"]),
        ("odd.ogv", f"{THEORA} {ODD} {VORBIS} -ar 22050", [], ["video", "audio"]),
        ("vp8.ogv", f"-c:v libvpx -auto-alt-ref 1 -lag-in-frames 9 {VORBIS}", [], ["video", "audio"]),
        ("song.ogg", "-vn -c:a libvorbis", [], ["audio"]),
        ("song.opus", "-vn -c:a libopus -frame_duration 60", ["audio"], []),
        ("song.oga", "-vn -c:a flac", ["audio"], []),
    ],
)  # fmt: skip
def test_films_and_sounds_decode_from_fragments(
    name: str, words: str, copied: list[str], encoded: list[str], tmp_path: Path
) -> None:
    path = encoded_film(name, words)
    index = indexed(path)
    assert [track.name for track in index.tracks] == copied
    assert [track.name for track in index.only_encoded] == encoded
    for track in (*index.tracks, *index.only_encoded):
        ours = fragmented(path, track, tmp_path)
        if track.video:
            found = pictures(path, "v:0")
            assert_pictures_are_alike(pictures(ours, "v:0"), found, Fraction(1, 1000))
            continue
        # The end of a last packet isn't heard by the page's position, of which decoders aren't told.
        heard, expected = sound(ours, "a:0"), sound(path, "a:0")
        assert heard.startswith(expected)
        channels = len(expected) // SAMPLE_BYTES // round(3 * track.entry.sample_rate)
        assert len(heard) - len(expected) < LONGEST_PACKET * channels * SAMPLE_BYTES
        assert index.duration == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_sound_is_copied_whose_codec_mp4_has(codec: str) -> None:
    path = encoded_film(f"{codec}-alone.ogg", f"-vn -c:a {codec}")
    text = titles_of(path).multivariant_playlist(path.name)
    assert {"libopus": 'CODECS="Opus"', "flac": 'CODECS="fLaC"'}[codec] in text


def assert_has_packets(path: Path, expected: list[Packet], *, first: float = 0) -> None:
    """Assert that the picture has packets at the times that ffprobe finds, and the key frames among them."""
    (video,) = [track for track in indexed(path).only_encoded if track.video]
    samples = video.samples.samples(0, len(video.samples))
    times = [float(time) / video.timescale for time in samples.decode_time[:-1]]
    wanted = [float(one.pts) - first for one in expected]
    assert [time - times[0] for time in times] == pytest.approx(
        [time - wanted[0] for time in wanted], abs=1e-3
    )
    assert samples.is_sync.tolist() == [one.key for one in expected]


def test_pictures_have_the_times_and_key_frames_that_ffprobe_finds() -> None:
    path = encoded_film("web.ogv", WEB)
    found = packets(path, "v:0")
    assert sum(one.key for one in found) == 3
    assert_has_packets(path, found)


@pytest.mark.clause("RFC 3533 §6")
def test_a_lost_page_costs_only_its_own_packets(tmp_path: Path) -> None:
    pages = pages_of(encoded_film("web.ogv", WEB).read_bytes())
    serial = pages[0].serial
    lost = [number for number, page in enumerate(pages) if page.serial == serial][6]
    path = written("lost.ogv", pages[:lost] + pages[lost + 1 :], tmp_path)
    (video,) = [track for track in indexed(path).only_encoded if track.video]
    whole = len(packets(encoded_film("web.ogv", WEB), "v:0"))
    assert len(video.samples) == whole - len(list(pages[lost].pieces())) < whole
    assert video.samples.samples(0, len(video.samples)).decode_time[-1] == 3 * video.timescale
    # Damage is as much as a page that is missing.
    data = bytearray(encoded_film("web.ogv", WEB).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.ogv").write_bytes(data)
    (video,) = [track for track in indexed(tmp_path / "damaged.ogv").only_encoded if track.video]
    assert whole - 60 < len(video.samples) <= whole


def test_an_empty_packet_is_a_picture_that_stays(tmp_path: Path) -> None:
    pages = pages_of(encoded_film("web.ogv", WEB).read_bytes())
    serial, shift = pages[0].serial, 6
    found: list[Page] = []
    for page in pages:
        if page.serial == serial and page.granule > 0:
            if page.sequence == 2:
                # Behind the first frame, the only one on this page
                page = replace(page, lacing=page.lacing + b"\0", granule=page.granule + 1)
            else:
                frames = (page.granule >> shift) + page.granule % (1 << shift) + 1
                key = (page.granule >> shift) + 1
                page = replace(page, granule=key << shift | frames - key)
        found.append(page)
    path = written("stays.ogv", found, tmp_path)
    (video,) = [track for track in indexed(path).only_encoded if track.video]
    times = video.samples.samples(0, 4).decode_time / video.timescale * 25
    assert times.tolist() == pytest.approx([0, 2, 3, 4, 5])


def test_a_download_that_was_cut_off_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    data = encoded_film("web.ogv", WEB).read_bytes()
    path = tmp_path / "cut.ogv"
    path.write_bytes(data[: len(data) * 2 // 3])
    index = indexed(path)
    assert any("which the file lacks" in line for line in index.left_out)
    (video,) = [track for track in index.only_encoded if track.video]
    assert 30 < len(pictures(fragmented(path, video, tmp_path), "v:0")) < 75


@pytest.mark.clause("RFC 3533 §4")
def test_the_first_streams_of_a_chain_are_the_film_and_the_others_are_named(tmp_path: Path) -> None:
    data = encoded_film("web.ogv", WEB).read_bytes()
    path = tmp_path / "chain.ogv"
    path.write_bytes(data + encoded_film("song.ogg", "-vn -c:a libvorbis").read_bytes())
    index = indexed(path)
    assert any("streams of a chain" in line for line in index.left_out)
    assert index.duration == pytest.approx(3, abs=0.05)


def test_streams_of_other_codecs_are_named_and_descriptions_are_not(tmp_path: Path) -> None:
    pages = pages_of(encoded_film("web.ogv", WEB).read_bytes())
    added = [paginate([first], 77 + number, 0, FIRST)[0] for number, first in enumerate(
        (b"fishead\0" + bytes(56), b"\x80kate\0\0\0" + bytes(56), b"whatever")
    )]  # fmt: skip
    index = indexed(written("others.ogv", added + pages, tmp_path))
    assert [line for line in index.left_out if line.startswith("stream")] == [
        "stream 1: Kate in Ogg isn't read",
        "stream 2: an unknown codec in Ogg isn't read",
    ]
    assert len(index.only_encoded) == 2
    with pytest.raises(UnsupportedError, match="Kate"):
        indexed(written("kate.ogv", added, tmp_path))


def test_languages_and_titles_are_those_of_the_comments() -> None:
    words = f"{WEB} -metadata:s:a language=deu -metadata:s:a title=Original"
    (track,) = [one for one in indexed(encoded_film("german.ogv", words)).only_encoded if not one.video]
    assert (track.language, track.title) == ("de", "Original")


def ogm_pages(path: Path, codec: bytes, ticks: int) -> Iterator[Page]:
    """Write the pictures of an AVI file as OGM (OggDS): a page for each, with lengths of durations."""
    described = struct.pack("<4sIqqIIHHII", codec, 44, ticks, 1, 1, 1 << 16, 24, 0, 176, 144)
    yield paginate([b"\x01video\0\0\0" + described], 7, 0, FIRST)[0]
    yield replace(paginate([b"\x03vorbis\0\0\0\0\0\0\0\0\x01"], 7, 1)[0], granule=0)
    chunks = [chunk for chunk in read_avi_file(path).chunks if chunk[0] == b"00dc"]
    sequence = 2
    for number, (_, data, is_key) in enumerate(chunks):
        flags = (8 if is_key else 0) | 0x40
        for page in paginate([bytes((flags, 1)) + data], 7, sequence, 0):
            end = LAST if number == len(chunks) - 1 else 0
            yield replace(page, granule=number if page.granule >= 0 else -1, flags=page.flags | end)
            sequence += 1


def test_pictures_of_ogm_decode_from_fragments(tmp_path: Path) -> None:
    film = encoded_film("xvid-alone.avi", "-an -c:v mpeg4 -vtag XVID -g 25")
    pages = list(ogm_pages(film, b"XVID", 400_000))
    assert any(page.flags & CONTINUED for page in pages) or len(pages) == 77
    path = written("old.ogm", pages, tmp_path)
    (video,) = indexed(path).only_encoded
    ours = pictures(fragmented(path, video, tmp_path), "v:0")
    assert_pictures_are_alike(ours, pictures(path, "v:0"), Fraction(1, 1000))
    assert_pictures_are_alike(ours, pictures(film, "v:0"), Fraction(1, 1000))
    with pytest.raises(UnsupportedError, match="XXXX"):
        indexed(written("unknown.ogm", list(ogm_pages(film, b"XXXX", 400_000)), tmp_path))


def test_crafted_files_are_refused_before_they_cost_much() -> None:
    def read(data: bytes, **limits: int) -> None:
        read_ogg(partial(read_of, data), len(data), OggFileLimits(**limits))

    data = encoded_film("web.ogv", WEB).read_bytes()
    with pytest.raises(TooLargeError, match="more than 100 packets"):
        read(data, pieces=100)
    with pytest.raises(TooLargeError, match="more than 1000"):
        read(data, file_bytes=1000)
    begins = [paginate([b"\x01vorbis"], serial, 0, FIRST)[0].serialize() for serial in range(40)]
    with pytest.raises(TooLargeError, match="more than 32 streams"):
        read(b"".join(begins))
    comments = [page.serialize() for page in paginate([b"\x03vorbis" + bytes(5 << 20)], 0, 1)]
    with pytest.raises(TooLargeError, match="headers of more than"):
        read(begins[0] + b"".join(comments))
    far = [replace(page, granule=1 << 62 if page.granule > 0 else page.granule) for page in pages_of(data)]
    index_of = partial(read_of, b"".join(page.serialize() for page in far))
    with pytest.raises(MediaError):
        read_index(index_of, sum(page.size for page in far))


def test_damaged_files_are_indexed_or_refused() -> None:
    data = encoded_film("web.ogv", WEB).read_bytes()
    pages, random, outcomes = pages_of(data), Random(37), set()
    for number in range(150):
        if number % 2:
            # With right checksums
            page = random.choice(pages[:12])
            body = bytearray(page.body)
            for _ in range(random.choice((1, 5))):
                body[random.randrange(len(body))] = random.randrange(256)
            changed = replace(page, body=bytes(body), granule=random.choice((page.granule, 5, -1, 1 << 40)))
            broken = b"".join((changed if one is page else one).serialize() for one in pages)
        else:
            cut = bytearray(data)
            for _ in range(random.choice((1, 5, 50))):
                cut[random.randrange(len(cut))] = random.randrange(256)
            broken = bytes(cut)
        try:
            index = read_index(partial(read_of, broken), len(broken))
            for track in (*index.tracks, *index.only_encoded):
                track.samples.samples(0, len(track.samples))
            outcomes.add("indexed")
        except MediaError as error:
            outcomes.add(type(error).__name__)
    assert "indexed" in outcomes


def test_ffprobe_and_the_index_agree_on_sound(tmp_path: Path) -> None:
    path = encoded_film("web.ogv", WEB)
    (track,) = [one for one in indexed(path).only_encoded if not one.video]
    found = packets(path, "a:0")
    samples = track.samples.samples(0, len(track.samples))
    assert len(samples.size) == len(found)
    times = samples.decode_time[1:-1] / track.timescale
    assert times.tolist() == pytest.approx([float(one.pts) for one in found[1:]], abs=1e-4)
    command = ["ffmpeg", "-v", "error", "-i", str(fragmented(path, track, tmp_path)), "-f", "null", "-"]
    assert subprocess.run(command, check=True, capture_output=True).stderr == b""
