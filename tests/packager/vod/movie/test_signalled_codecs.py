"""What playlists and manifests say of a file's codecs is so, and no picture of it is lost in silence."""

from __future__ import annotations

from pathlib import Path

import m3u8
import pytest

from media.errors import UnsupportedError
from media.mp4.boxes import box
from packager.export.export import export
from packager.library.local_storage import Library
from packager.vod import Titles
from tests.fork_server import run_headwater
from tests.packager import films
from tests.packager.films import H264, probe, run_ffmpeg
from tests.packager.rewritten import Change, boxes_of, rewrite, sample_entry
from tests.packager.vod.movie.signalled_films import MPD, SECONDS, hevc, make, manifest, master
from tests.packager.vod.vod_titles import titles_of, write_out


def dolby_vision(profile: int, level: int, compatibility: int) -> bytes:
    """A configuration record: version 1.0, with metadata and a base layer, without an enhancement layer."""
    bits = profile << 17 | level << 11 | 0b101 << 8 | compatibility << 4
    return b"\1\0" + bits.to_bytes(3, "big") + bytes(19)


def as_dolby_vision(kind: bytes, *boxes: bytes) -> Change:
    def change(handler: bytes, name: bytes, payload: bytes) -> bytes:
        if (handler, name) != (b"vide", b"stsd"):
            return payload
        return sample_entry(payload, handler, kind=kind, more=b"".join(boxes))

    return change


# A picture that can't be carried


@pytest.fixture(scope="module")
def old_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film whose picture is MPEG-4 Part 2 and whose sound is AAC."""
    return make(tmp_path_factory.mktemp("old") / "old.mp4", "-c:v", "mpeg4", "-c:a", "aac")


def test_a_film_whose_picture_can_not_be_carried_is_refused_by_name(old_picture: Path) -> None:
    titles = titles_of(old_picture)
    for ask in (titles.multivariant_playlist, titles.manifest):
        with pytest.raises(UnsupportedError, match=r"MPEG-4 Part 2 video \(mp4v\).*audio/media\.m3u8"):
            ask(old_picture.name)
    obstacle = titles.facts.obstacle(old_picture.name)
    assert obstacle is not None
    assert "MPEG-4 Part 2" in obstacle


@pytest.mark.parametrize(
    ("codec", "name"),
    [("mpeg2video", "MPEG-2 video"), ("mpeg1video", "MPEG-1 video"), ("mjpeg", "JPEG pictures")],
)
def test_what_is_coded_otherwise_under_the_same_name_is_refused_as_what_it_is(
    codec: str, name: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "old.mp4", "-c:v", codec, "-c:a", "aac", "-strict", "-2")
    with pytest.raises(UnsupportedError, match=rf"{name} \(mp4v\)"):
        titles_of(path).multivariant_playlist(path.name)


def test_its_sound_can_be_asked_for_alone_and_the_playlist_says_that_it_is_alone(
    old_picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    playlist = write_out(old_picture, "audio", tmp_path)
    text = playlist.read_text()
    assert "\n# This is the sound alone: track 1: codec MPEG-4 Part 2 video (mp4v)" in text
    assert m3u8.loads(text).segments
    (stream,) = probe(playlist, "-show_streams")["streams"]
    assert stream["codec_name"] == "aac"
    assert "a part of a film was left out" in capsys.readouterr().out  # the log


def test_packaging_it_ahead_of_time_fails_and_says_why(old_picture: Path, tmp_path: Path) -> None:
    done = run_headwater("package", old_picture, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "MPEG-4 Part 2 video" in done.stderr
    assert not list(tmp_path.rglob("master.m3u8"))


def test_packaging_names_each_track_that_is_left_out(tmp_path: Path) -> None:
    tracks = ("-map", "0", "-map", "1", "-map", "1", "-c:v", "copy", "-c:a:0", "aac", "-c:a:1", "vorbis")
    path = make(tmp_path / "two.mp4", *tracks, *H264, "-ac:a:1", "2", "-strict", "-2")
    assert "# Left out: track 3: codec Vorbis" in titles_of(path).multivariant_playlist(path.name)
    done = run_headwater("package", path, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert "codec Vorbis" in done.stdout + done.stderr


def test_a_rendition_without_its_picture_is_none_of_the_title(old_picture: Path, tmp_path: Path) -> None:
    (tmp_path / "film.180p.mp4").write_bytes(old_picture.read_bytes())
    make(tmp_path / "film.360p.mp4", *H264, "-c:a", "aac")
    text = Titles(Library(tmp_path)).multivariant_playlist("film")
    assert [variant.uri for variant in m3u8.loads(text).playlists] == ["../film.360p.mp4/video/media.m3u8"]


def test_a_cover_is_no_picture_of_a_film(tmp_path: Path) -> None:
    """One JPEG as a video track, as QuickTime has covers, beside the sound."""
    words = ("-vf", "select=eq(n\\,0),format=yuvj420p", "-vsync", "vfr", "-c:v", "mjpeg", "-c:a", "aac")
    path = make(tmp_path / "album.mov", *words)
    assert [stream["codec_name"] for stream in probe(path, "-show_streams")["streams"]] == ["mjpeg", "aac"]
    (variant,) = master(path).playlists
    assert variant.uri == "audio/media.m3u8"


# Dolby Vision


@pytest.fixture(scope="module")
def ten_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hevc(tmp_path_factory.mktemp("hevc") / "film.mp4")


@pytest.mark.parametrize(
    ("kind", "name", "record", "codec", "supplemental"),
    [
        # Dolby Vision Profiles and Levels: profile 5 is shown by nothing else
        (b"dvh1", b"dvcC", (5, 6, 0), "dvh1.05.06", None),
        (b"dvhe", b"dvcC", (5, 6, 0), "dvh1.05.06", None),
        # RFC 8216bis §4.4.6.2, SUPPLEMENTAL-CODECS: its own example is dvh1.08.07/db4h
        (b"hvc1", b"dvvC", (8, 7, 4), "hvc1", "dvh1.08.07/db4h"),
        (b"hvc1", b"dvvC", (8, 5, 1), "hvc1", "dvh1.08.05/db1p"),
        (b"hvc1", b"dvvC", (8, 5, 2), "hvc1", "dvh1.08.05/db2g"),
        (b"dvh1", b"dvvC", (8, 5, 1), "hvc1", "dvh1.08.05/db1p"),
    ],
)
def test_dolby_vision_is_carried_with_its_configuration(
    ten_bits: Path,
    tmp_path: Path,
    kind: bytes,
    name: bytes,
    record: tuple[int, int, int],
    codec: str,
    supplemental: str | None,
) -> None:
    configuration = box(name, dolby_vision(*record))
    path = rewrite(ten_bits, tmp_path / "film.mp4", as_dolby_vision(kind, configuration))
    assert probe(path, "-show_streams")["streams"][0]["side_data_list"][0]["dv_profile"] == record[0]
    titles = titles_of(path)
    text = titles.multivariant_playlist(path.name)
    assert m3u8.loads(text).playlists[0].stream_info.codecs.split(",")[0].startswith(codec)
    assert (f'SUPPLEMENTAL-CODECS="{supplemental}"' in text) is (supplemental is not None)
    init = titles.segments.track(path.name, "video").init
    assert configuration in init
    if supplemental is not None:
        assert supplemental[-4:].encode() in boxes_of(init, b"ftyp")
    playlist = write_out(path, "video", tmp_path / "out")
    (side,) = probe(playlist, "-show_streams")["streams"][0]["side_data_list"]
    assert (side["dv_profile"], side["dv_level"], side["dv_bl_signal_compatibility_id"]) == record
    shown = next(manifest(path).iterfind(f".//{MPD}AdaptationSet[@contentType='video']/{MPD}Representation"))
    assert shown.get("codecs", "").startswith(codec)
    scte = "{urn:scte:dash:scte214-extensions}"
    told = (shown.get(f"{scte}supplementalCodecs"), shown.get(f"{scte}supplementalProfiles"))
    assert told == (tuple(supplemental.split("/")) if supplemental else (None, None))


def test_dolby_vision_of_an_unknown_profile_is_refused(ten_bits: Path, tmp_path: Path) -> None:
    path = rewrite(ten_bits, tmp_path / "film.mp4", as_dolby_vision(b"dvh1"))
    with pytest.raises(UnsupportedError, match="codec dvh1 without dvcC or dvvC"):
        master(path)
    with pytest.raises(UnsupportedError, match="dvh1"):
        export([path], tmp_path / "out").require()


# Channels and codecs of sound


@pytest.mark.parametrize(
    ("codec", "layout", "channels"),
    [("ac3", "5.1", 6), ("eac3", "5.1", 6), ("ac3", "mono", 1), ("eac3", "stereo", 2), ("aac", "7.1", 8)],
)
def test_the_channels_are_those_that_are_coded(
    codec: str, layout: str, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "sound.mp4"
    tone = f"sine=duration={SECONDS}:sample_rate=48000,aformat=channel_layouts={layout}"
    run_ffmpeg("-f", "lavfi", "-i", f"testsrc2=duration={SECONDS}:size=320x180", "-f", "lavfi", "-i", tone,
               *H264, "-c:a", codec, path)  # fmt: skip
    assert probe(path, "-show_streams")["streams"][1]["channels"] == channels
    assert [media.channels for media in master(path).media] == [str(channels)]
    (told,) = manifest(path).iter(f"{MPD}AudioChannelConfiguration")
    if channels == 8:  # ISO/IEC 23091-3: 7.1 is 12, and 8 is something else
        assert (told.get("schemeIdUri"), told.get("value")) == (
            "urn:mpeg:mpegB:cicp:ChannelConfiguration",
            "12",
        )
    else:
        assert told.get("value") == str(channels)


@pytest.fixture(scope="module")
def atmos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound of 5.1 in E-AC-3 that says of itself to have sixteen objects (ETSI TS 103 420 §C.3)."""
    folder = tmp_path_factory.mktemp("atmos")
    tone = f"sine=duration={SECONDS}:sample_rate=48000,aformat=channel_layouts=5.1"
    run_ffmpeg("-f", "lavfi", "-i", f"testsrc2=duration={SECONDS}:size=320x180", "-f", "lavfi", "-i", tone,
               *H264, "-c:a", "eac3", folder / "plain.mp4")  # fmt: skip

    def change(handler: bytes, name: bytes, payload: bytes) -> bytes:
        if (handler, name) != (b"soun", b"stsd"):
            return payload
        dec3 = boxes_of(payload, b"dec3")[8:]
        return sample_entry(payload, handler, replaced={b"dec3": dec3[:5] + b"\1\x10"})

    return rewrite(folder / "plain.mp4", folder / "atmos.mp4", change)


def test_objects_are_told_where_the_configuration_has_them(atmos: Path) -> None:
    assert 'CHANNELS="16/JOC"' in titles_of(atmos).multivariant_playlist(atmos.name)
    properties = {
        one.get("schemeIdUri"): one.get("value") for one in manifest(atmos).iter(f"{MPD}SupplementalProperty")
    }
    assert properties["tag:dolby.com,2018:dash:EC3_ExtensionType:2018"] == "JOC"
    assert properties["tag:dolby.com,2018:dash:EC3_ExtensionComplexityIndex:2018"] == "16"
    (told,) = manifest(atmos).iter(f"{MPD}AudioChannelConfiguration")
    assert told.get("value") == "6"


@pytest.mark.parametrize(
    ("specific", "codec", "channels"),
    [
        # AAC-LC of 24 kHz, sync extension 0x2b7, SBR to 48 kHz; then 0x548, parametric stereo
        ("130856e598", "mp4a.40.5", 1),
        ("130856e59d4880", "mp4a.40.29", 2),
    ],
)
def test_he_aac_behind_a_sync_extension_is_named_so(
    specific: str, codec: str, channels: int, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.mp4"
    run_ffmpeg("-f", "lavfi", "-i", f"sine=duration={SECONDS}:sample_rate=24000", "-c:a", "aac", plain)

    def change(handler: bytes, name: bytes, payload: bytes) -> bytes:
        return sample_entry(payload, handler, replaced={b"esds": esds}) if name == b"stsd" else payload

    data = bytes.fromhex(specific)
    configuration = b"\x40\x15" + bytes(11) + b"\5" + bytes([len(data)]) + data
    stream = bytes(3) + b"\4" + bytes([len(configuration)]) + configuration + b"\6\1\2"
    esds = bytes(4) + b"\3" + bytes([len(stream)]) + stream
    path = rewrite(plain, tmp_path / "he.mp4", change)
    assert probe(path, "-show_streams")["streams"][0]["sample_rate"] == "48000"
    assert master(path).playlists[0].stream_info.codecs == codec
    (shown,) = manifest(path).iter(f"{MPD}Representation")
    assert (shown.get("codecs"), shown.get("audioSamplingRate")) == (codec, "48000")
    (told,) = shown.iter(f"{MPD}AudioChannelConfiguration")
    assert told.get("value") == str(channels)


def test_the_films_of_this_folder_are_told_as_ffprobe_tells_them() -> None:
    for name, stream in (("ac3.mp4", 0), ("opus.mp4", 1), ("flac.mp4", 0)):
        found = probe(films.film(name), "-show_streams")["streams"][stream]
        (told,) = manifest(films.film(name)).iter(f"{MPD}AudioChannelConfiguration")
        assert told.get("value") == str(found["channels"])
