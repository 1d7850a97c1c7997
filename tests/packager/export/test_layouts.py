"""Both layouts hold the film's packets, in HLS, in DASH and as a file by itself."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from packager.export.export import export
from tests.packager import films
from tests.packager.films import packets, probe

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


def assert_same(found: list[films.Packet], source: list[films.Packet]) -> None:
    assert [packet.digest for packet in found] == [packet.digest for packet in source]
    assert [packet.key for packet in found] == [packet.key for packet in source]


@pytest.mark.parametrize("single_file", [False, True], ids=["segments", "single file"])
@pytest.mark.parametrize("name", ["bframes.mp4", "moovlast.mp4", "hevc.mp4", "sound.m4a", "languages.mp4"])
def test_the_packets_are_the_films(name: str, single_file: bool, tmp_path: Path) -> None:
    path = films.film(name)
    (master,) = export([path], tmp_path, single_file=single_file).require()
    kinds = {stream["codec_type"] for stream in probe(path, "-show_streams")["streams"]}
    for stream in ("v:0", "a:0"):
        if {"v": "video", "a": "audio"}[stream[0]] not in kinds:
            continue
        source = packets(path, stream)
        assert_same(packets(master, stream), source)
        assert_same(packets(master.with_name("manifest.mpd"), stream), source)


@pytest.mark.parametrize("name", ["bframes.mp4", "hevc.mp4"])
def test_a_single_file_plays_by_itself(name: str, tmp_path: Path) -> None:
    path = films.film(name)
    (master,) = export([path], tmp_path, single_file=True).require()
    for track, stream in (("video", "v:0"), ("audio", "a:0")):
        file = master.parent / track / "media.mp4"
        if not file.exists():
            continue
        source = packets(path, stream)
        found = packets(file, stream)
        assert_same(found, source)
        for ours, theirs in zip(found, source, strict=True):
            assert ours.pts == pytest.approx(theirs.pts, abs=2e-6)
        lasts = float(probe(file, "-show_format")["format"]["duration"])
        assert lasts == pytest.approx(float(probe(path, "-show_format")["format"]["duration"]), abs=0.1)


def test_byte_ranges_are_whole_fragments_and_cover_the_file(tmp_path: Path) -> None:
    (master,) = export([films.film("bframes.mp4")], tmp_path, single_file=True).require()
    root = ElementTree.parse(master.with_name("manifest.mpd")).getroot()
    assert root.get("profiles") == "urn:mpeg:dash:profile:isoff-on-demand:2011"
    for representation in root.iter(f"{MPD}Representation"):
        address = representation.findtext(f"{MPD}BaseURL")
        assert address is not None
        if not address.endswith("media.mp4"):  # I-frames
            continue
        data = (master.parent / address).read_bytes()
        (base,) = representation.iter(f"{MPD}SegmentBase")
        first, last = map(int, base.attrib["indexRange"].split("-"))
        assert data[first + 4 : first + 8] == b"sidx"
        assert int.from_bytes(data[first : first + 4], "big") == last - first + 1
        listed = m3u8.load(str(master.parent / Path(address).parent / "media.m3u8"))
        assert listed.segments[0].init_section.byterange == f"{first}@0"
        position = last + 1
        for segment in listed.segments:
            assert segment.uri == "media.mp4"
            length, offset = map(int, segment.byterange.split("@"))
            assert offset == position
            assert data[offset + 4 : offset + 8] == b"moof"
            position += length
        assert position == len(data)


def test_a_title_of_single_files(tmp_path: Path) -> None:
    for height, name in ((180, "silent.mp4"), (360, "bframes.mp4")):
        (tmp_path / f"film.{height}p.mp4").write_bytes(films.film(name).read_bytes())
    *_, master = export(sorted(tmp_path.glob("*.mp4")), tmp_path / "out", single_file=True).require()
    assert master == tmp_path / "out" / "film" / "master.m3u8"
    source = packets(films.film("bframes.mp4"), "a:0")
    assert_same(packets(master, "a:0"), source)
    assert_same(packets(master.with_name("manifest.mpd"), "a:0"), source)
