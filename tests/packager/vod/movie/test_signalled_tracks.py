"""What playlists and manifests say of colours, rates, languages, names and groups is what the file says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from media.mp4.boxes import full_box
from media.mp4.codecs.sequence_parameters import avc_parameter_sets, hevc_parameter_sets
from tests.packager import films
from tests.packager.films import H264, probe, run_ffmpeg
from tests.packager.rewritten import rewrite
from tests.packager.vod.movie.signalled_films import MPD, SECONDS, make, manifest, master
from tests.packager.vod.vod_titles import titles_of, write_out
from tests.patience import CLIENT_SECONDS


def coloured(path: Path, transfer: str, *words: str, codec: str = "libx264") -> Path:
    colours = ("-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc")
    quiet = ("-x265-params", "log-level=none", "-tag:v", "hvc1") if codec == "libx265" else ()
    coded = ("-c:v", codec, "-preset", "ultrafast", *quiet, "-pix_fmt", "yuv420p")
    return make(path, *coded, *colours, "-c:a", "aac", *words)


def without_colr(path: Path) -> Path:
    """Take the colr box away, so that only the coded stream tells of colours."""

    def change(handler: bytes, name: bytes, payload: bytes) -> bytes:
        return payload.replace(b"colr", b"free") if (handler, name) == (b"vide", b"stsd") else payload

    return rewrite(path, path.with_name(f"bare-{path.name}"), change)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(
    ("transfer", "number", "video_range"),
    [("smpte2084", 16, "PQ"), ("arib-std-b67", 18, "HLG"), ("bt709", 1, "SDR")],
)
def test_the_range_and_the_colours_are_those_of_the_file(
    codec: str, transfer: str, number: int, video_range: str, tmp_path: Path
) -> None:
    path = coloured(tmp_path / "film.mp4", transfer, codec=codec)
    bare = without_colr(path)
    assert b"colr" in path.read_bytes()
    assert b"colr" not in bare.read_bytes()
    for one in (path, bare):
        assert probe(one, "-show_streams")["streams"][0]["color_transfer"] == transfer
        assert f"VIDEO-RANGE={video_range}," in titles_of(one).multivariant_playlist(one.name)
        video = manifest(one).find(f".//{MPD}AdaptationSet[@contentType='video']")
        assert video is not None
        told = {
            str(item.get("schemeIdUri")).rpartition(":")[2]: item.get("value")
            for item in video.iterfind(f"{MPD}SupplementalProperty")
        }
        assert told == {
            "ColourPrimaries": "9",
            "TransferCharacteristics": str(number),
            "MatrixCoefficients": "9",
        }


def test_a_picture_that_says_nothing_of_colours_is_sdr() -> None:
    name = "silent.mp4"
    assert "VIDEO-RANGE=SDR" in titles_of(films.film(name)).multivariant_playlist(name)


def test_the_frame_rate_is_the_largest_of_a_film_whose_rate_changes(tmp_path: Path) -> None:
    for rate, name in (("60", "fast.mp4"), ("24", "slow.mp4")):
        source = f"testsrc2=size=320x180:rate={rate}:duration=4"
        run_ffmpeg("-f", "lavfi", "-i", source, *H264, "-video_track_timescale", "90000", tmp_path / name)
    (tmp_path / "list").write_text("file slow.mp4\nfile fast.mp4\nfile slow.mp4\n")
    path = tmp_path / "film.mp4"
    run_ffmpeg("-f", "concat", "-i", tmp_path / "list", "-c", "copy", path)
    average = probe(path, "-show_streams")["streams"][0]["avg_frame_rate"]
    assert 30 < eval_rate(average) < 40
    assert master(path).playlists[0].stream_info.frame_rate == 60
    shown = next(manifest(path).iter(f"{MPD}Representation"))
    assert shown.get("frameRate") == "60"


def eval_rate(text: str) -> float:
    above, _, below = text.partition("/")
    return int(above) / int(below)


@pytest.mark.parametrize(
    ("rate", "clock"), [("30000/1001", "1000"), ("24000/1001", "16000"), ("50", "90000")]
)
def test_a_rate_that_does_not_change_is_no_other_by_rounding(rate: str, clock: str, tmp_path: Path) -> None:
    source = f"testsrc2=size=320x180:rate={rate}:duration=6"
    path = tmp_path / "film.mkv"  # whose clock has milliseconds
    run_ffmpeg("-f", "lavfi", "-i", source, *H264, path)
    run_ffmpeg("-i", path, "-c", "copy", "-video_track_timescale", clock, path.with_suffix(".mp4"))
    told = master(path.with_suffix(".mp4")).playlists[0].stream_info.frame_rate
    assert told == pytest.approx(eval_rate(rate if "/" in rate else f"{rate}/1"), abs=0.02)


SOUNDS = ("-map", "0", *("-map", "1") * 4, *H264, "-c:a", "aac")
NAMES = (
    *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger"),
    *("-metadata:s:a:2", "language=eng", "-metadata:s:a:2", "title=Director commentary"),
    *("-metadata:s:a:3", "language=fil", "-metadata:s:a:3", "handler_name=Descriptive"),
)


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_languages_are_bcp_47_and_names_are_those_of_the_tracks(ending: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"film.{ending}", *SOUNDS, *NAMES)
    fourth = "fil" if ending == "mp4" else None  # QuickTime's old codes have no Filipino that ffmpeg writes
    media = master(path).media
    told = [(one.language, one.name) for one in media]
    assert told[:3] == [("en", "English"), ("de", "Deutsch"), ("en", "Director commentary")]
    assert told[3][1] == "Descriptive"
    assert told[3][0] == fourth or ending == "mov"
    # RFC 8216bis §4.4.6.1.1: what is chosen by itself differs in its language
    assert [one.autoselect for one in media][:3] == ["YES", "YES", "NO"]
    sets = manifest(path).findall(f".//{MPD}AdaptationSet[@contentType='audio']")
    assert [one.get("lang") for one in sets][:3] == ["en", "de", "en"]
    assert [one.findtext(f"{MPD}Label") for one in sets] == [one.name for one in media]


def test_a_language_tag_that_says_more_than_the_code_is_told(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mp4", *H264, "-c:a", "aac", "-metadata:s:a:0", "language=por")

    def change(handler: bytes, name: bytes, payload: bytes) -> bytes:
        if (handler, name) != (b"soun", b"mdia"):
            return payload
        return payload + full_box(b"elng", 0, 0, b"pt-BR\0")  # ISO/IEC 14496-12 §8.4.6

    (media,) = master(rewrite(plain, tmp_path / "film.mp4", change)).media
    assert media.language == "pt-BR"


@pytest.mark.parametrize(
    ("tracks", "groups"),
    [
        # both languages in AAC, one of them in AC-3, too: nobody is offered AC-3 without French
        (
            [("aac", "eng"), ("aac", "fra"), ("ac3", "eng")],
            {"audio": (["en", "fr"], "mp4a.40.2"), "audio-2": (["en", "fr"], "ac-3,mp4a.40.2")},
        ),
        (
            [("aac", "eng"), ("ac3", "eng"), ("aac", "fra"), ("ac3", "fra")],
            {"audio": (["en", "fr"], "mp4a.40.2"), "audio-2": (["en", "fr"], "ac-3")},
        ),
        # no codec has both
        ([("aac", "eng"), ("ac3", "fra")], {"audio": (["en", "fr"], "mp4a.40.2,ac-3")}),
    ],
)
def test_every_group_has_every_language_and_its_variant_names_its_codecs(
    tracks: list[tuple[str, str]], groups: dict[str, tuple[list[str], str]], tmp_path: Path
) -> None:
    words = ["-map", "0", *("-map", "1") * len(tracks), *H264]
    for number, (codec, language) in enumerate(tracks):
        words += [f"-c:a:{number}", codec, f"-metadata:s:a:{number}", f"language={language}"]
    playlist = master(make(tmp_path / "film.mp4", *words))
    found: dict[str, list[str]] = {}
    for media in playlist.media:
        found.setdefault(media.group_id, []).append(media.language)
    assert found == {name: languages for name, (languages, _) in groups.items()}
    told = {one.stream_info.audio: one.stream_info.codecs.partition(",")[2] for one in playlist.playlists}
    assert told == {name: codecs for name, (_, codecs) in groups.items()}


def test_no_closed_captions_are_said_where_there_are_none(tmp_path: Path) -> None:
    assert master(films.film("silent.mp4")).playlists[0].stream_info.closed_captions == "NONE"
    # x264's note about itself, turned into what captions come in: ANSI/SCTE 128-1 §8.1
    data, note = films.film("silent.mp4").read_bytes(), bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")
    at = data.index(note)
    begin = data.rindex(b"\x06\x05", 0, at)
    captions = bytes.fromhex("b500314741393403c1fffc9420ff").ljust(len(note), b"\xff")
    path = tmp_path / "captions.mp4"
    path.write_bytes(data[:begin] + b"\x06\x04" + data[begin + 2 : at] + captions + data[at + len(note) :])
    frame = probe(path, "-select_streams", "v", "-show_frames", "-read_intervals", "%+#1")["frames"][0]
    assert "Closed Captions" in str(frame["side_data_list"])
    assert master(path).playlists[0].stream_info.closed_captions == '"captions"'


HEVC_FILM = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=10:repeat-headers={} -tag:v {}"
AVC_FILM = "-c:v libx264 -preset ultrafast -g 10 -x264-params repeat-headers=1"
WITH_SETS = {
    "hev1.mp4": (HEVC_FILM.format(1, "hev1"), "hvc1"),
    "hevc.mkv": (HEVC_FILM.format(1, "0"), "hvc1"),
    "without.mp4": (HEVC_FILM.format(0, "hev1"), "hvc1"),
    "avc3.mp4": (f"{AVC_FILM} -tag:v avc3", "avc1"),
}
"""Films whose key pictures have parameter sets, but for one: what ffmpeg makes them by, and what they are."""


def decoded(source: Path) -> list[str]:
    listed = ["-allowed_extensions", "ALL"] if source.suffix == ".m3u8" else []
    words = ["-nostdin", "-v", "error", *listed, "-i", str(source), "-map", "0:v:0"]
    argv = [films.FFMPEG, *words, "-f", "framemd5", "-vsync", "passthrough", "-"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=True).stdout
    return [line.rpartition(",")[2].strip() for line in said.splitlines() if not line.startswith("#")]


def parameter_sets(init: bytes) -> list[bytes]:
    for name, read in ((b"avcC", avc_parameter_sets), (b"hvcC", hevc_parameter_sets)):
        if (at := init.find(name)) >= 0:
            size = int.from_bytes(init[at - 4 : at], "big")
            return [one[1] if isinstance(one, tuple) else one for one in read(init[at + 4 : at - 4 + size])]
    return []


@pytest.mark.clause("ISO/IEC 14496-15 §8.4.1.1")
@pytest.mark.parametrize("name", WITH_SETS)
def test_parameter_sets_that_samples_repeat_are_left_out(name: str, tmp_path: Path) -> None:
    words, kind = WITH_SETS[name]
    path = make(tmp_path / name, *words.removesuffix(" -tag:v 0").split(), "-c:a", "aac")
    assert master(path).playlists[0].stream_info.codecs.startswith(f"{kind}.")
    playlist = write_out(path, "video", tmp_path / "out")
    assert probe(playlist, "-show_streams")["streams"][0]["codec_tag_string"] == kind
    folder = next(one for one in playlist.parent.iterdir() if one.is_dir())
    sets = parameter_sets((folder / "init.mp4").read_bytes())
    assert len(sets) >= 2
    for segment in folder.glob("*.m4s"):
        data = segment.read_bytes()
        assert not [one for one in sets if one in data]
    frames = decoded(path)
    assert len(frames) == 25 * SECONDS
    assert decoded(playlist) == frames
    bounds = titles_of(path).segments.track(path.name, "video").sizes.tolist()
    written = [(folder / f"{number}.m4s").stat().st_size for number in range(len(bounds))]
    assert all(bound - 1000 < size <= bound for size, bound in zip(written, bounds, strict=True))


def test_a_film_whose_parameter_sets_change_keeps_them(tmp_path: Path) -> None:
    parts = []
    for number, quality in enumerate(("ctu=32", "ctu=16")):
        part = tmp_path / f"{number}.hevc"
        coded = f"log-level=none:keyint=10:bframes=0:repeat-headers=1:{quality}"
        make(part, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", coded, "-an", "-f", "hevc")
        parts.append(part.read_bytes())
    (joined := tmp_path / "joined.hevc").write_bytes(b"".join(parts))
    path = tmp_path / "film.mp4"
    run_ffmpeg("-r", "25", "-i", joined, "-c", "copy", "-tag:v", "hev1", path)
    assert master(path).playlists[0].stream_info.codecs.startswith("hev1.")
    playlist = write_out(path, "video", tmp_path / "out")
    assert decoded(playlist) == decoded(path)
    assert len(decoded(path)) == 50 * SECONDS
