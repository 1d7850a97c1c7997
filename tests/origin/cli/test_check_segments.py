"""``headwater check`` finds open groups, intra-refresh and variants cut differently in others' VOD."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fork_server import run_headwater
from tests.origin.cli.judgements import findings_in
from tests.packager.films import run_ffmpeg

CLAIMED = "can't be decoded alone, though EXT-X-INDEPENDENT-SEGMENTS says so"
APART = "variants aren't cut alike"
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "3")


def variant(folder: Path, name: str, group: int, *words: str, kind: str = "fmp4") -> str:
    """Let ffmpeg's own packager make a rendition; give what a multivariant playlist says of it."""
    (folder / name).mkdir()
    source = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=6")
    settings = ("-g", str(group), "-hls_time", "2", "-hls_playlist_type", "vod", "-hls_segment_type", kind)
    run_ffmpeg(*source, *words, *settings, folder / name / "media.m3u8")
    told = 'BANDWIDTH=500000,RESOLUTION=160x90,CODECS="avc1.64000c"'
    return f"#EXT-X-STREAM-INF:{told}\n{name}/media.m3u8\n"


def findings(folder: Path, *variants: str, independent: bool = True) -> str:
    head = "#EXTM3U\n#EXT-X-VERSION:6\n" + "#EXT-X-INDEPENDENT-SEGMENTS\n" * independent
    (folder / "master.m3u8").write_text(head + "".join(variants))
    return findings_in(folder, "master.m3u8")


@pytest.mark.parametrize(
    ("settings", "independent"),
    [("scenecut=0", True), ("scenecut=0:open-gop=1", False), ("scenecut=0:intra-refresh=1", False)],
)
@pytest.mark.parametrize("kind", ["fmp4", "mpegts"])
def test_a_claim_of_independent_segments_is_held_against_them(
    settings: str, independent: bool, kind: str, tmp_path: Path
) -> None:
    told = variant(tmp_path, "one", 50, *X264, "-x264-params", settings, kind=kind)
    assert (CLAIMED in findings(tmp_path, told)) is not independent
    assert CLAIMED not in findings(tmp_path, told, independent=False)


@pytest.mark.usefixtures("quick_tools")
def test_variants_that_are_cut_differently_are_named_with_the_place(tmp_path: Path) -> None:
    one = variant(tmp_path, "one", 50, *X264, "-sc_threshold", "0")
    other = variant(tmp_path, "other", 60, *X264, "-sc_threshold", "0")
    same = variant(tmp_path, "same", 50, *X264, "-sc_threshold", "0", "-vf", "scale=80:46")
    said = findings(tmp_path, one, other)
    assert f"{APART}, so no player can change between them: segment 1 begins at 2.000 s in" in said
    assert "and at 2.400 s in" in said
    assert "/other/media.m3u8" in said
    assert APART not in findings(tmp_path, one, same)


MPD = (
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT4S"><Period><AdaptationSet>'
    '<Representation id="a">{}</Representation></AdaptationSet></Period></MPD>'
)
MANNERS = {
    "timeline": ("-use_timeline", "1"),
    "template": ("-use_timeline", "0"),
    "list": ("-use_template", "0"),
    "index": ("-single_file", "1"),
}
SMALL = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=8")


def dash(folder: Path, manner: str, *words: str) -> Path:
    """Let ffmpeg write a manifest with what it claims of every film: startWithSAP and segmentAlignment."""
    settings = ("-f", "dash", "-seg_duration", "2", *MANNERS[manner], folder / "it.mpd")
    run_ffmpeg(*SMALL, "-pix_fmt", "yuv420p", *words, *settings)
    return folder / "it.mpd"


@pytest.mark.usefixtures("quick_tools")
@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(("settings", "closed"), [("scenecut=0", True), ("scenecut=0:open-gop=1", False)])
def test_a_claim_of_access_points_is_held_against_a_manifests_segments(
    settings: str, closed: bool, manner: str, tmp_path: Path
) -> None:
    path = dash(tmp_path, manner, *X264, "-x264-params", settings, "-g", "50")
    assert 'startWithSAP="1"' in path.read_text()
    assert ("though startWithSAP says 1" in findings_in(tmp_path, "it.mpd")) is not closed
    path.write_text(path.read_text().replace('startWithSAP="1"', ""))
    assert "startWithSAP" not in findings_in(tmp_path, "it.mpd")


@pytest.mark.usefixtures("quick_tools")
@pytest.mark.parametrize(
    ("manner", "group", "aligned"), [("timeline", 50, True), ("timeline", 60, False), ("template", 60, False)]
)
def test_a_claim_of_alignment_is_held_against_a_manifests_segments(
    group: int, aligned: bool, manner: str, tmp_path: Path
) -> None:
    two = ("-map", "0", "-map", "0", *X264, "-sc_threshold", "0", "-g:0", "50", "-g:1", str(group))
    path = dash(tmp_path, manner, *two, "-s:1", "80x46", "-adaptation_sets", "id=0,streams=v")
    text = path.read_text()
    if 'segmentAlignment="true"' not in text:
        path.write_text(text.replace("<AdaptationSet ", '<AdaptationSet segmentAlignment="true" '))
    assert ("segmentAlignment isn't so" in findings_in(tmp_path, "it.mpd")) is not aligned


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<MPD", "isn't well-formed XML"),
        ("<html/>", "isn't an MPD"),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
            "has a document type declaration",
            marks=pytest.mark.clause("XML of others is read without entities"),
        ),
        ('<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"/>', "has no availabilityStartTime"),
        (
            '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="x"/>',
            "has a value that can't be read",
        ),
        (
            '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="1970-01-01"/>',
            "has no period that has begun",
        ),
        (MPD.format('<SegmentTemplate media="$Number$" duration="x"/>'), "has a value that can't be read"),
        (MPD.format('<SegmentTemplate duration="2"/>'), "has a SegmentTemplate without media"),
        (MPD.format('<SegmentTemplate media="$Number%05d$.m4s" duration="2"/>'), "00002.m4s isn't there"),
        (
            MPD.format('<BaseURL>it.mpd</BaseURL><SegmentBase indexRange="0-99"/>'),
            "has an indexRange without an index",
        ),
    ],
)
def test_manifests_that_are_none_are_told_so(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "it.mpd").write_text(text)
    assert words in findings_in(tmp_path, "it.mpd")


@pytest.mark.promise("headwater package")
@pytest.mark.usefixtures("quick_tools")
@pytest.mark.parametrize("options", [(), ("--single-file",)])
def test_a_folder_that_was_packaged_is_judged_without_a_server(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    film, out = tmp_path / "film.mp4", tmp_path / "out"
    tone = ("-f", "lavfi", "-i", "sine=440:duration=8")
    run_ffmpeg(*SMALL, *tone, *X264, "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac", film)
    assert run_headwater("package", film, "--out", out, *options).returncode == 0

    def said(place: Path) -> tuple[int, str]:
        done = run_headwater("check", place)
        return done.returncode, done.stdout + done.stderr

    status, text = said(out)
    assert status == 0, text
    assert text.endswith(" checks held, 0 didn't\n")
    assert said(out / "film.mp4" / "manifest.mpd")[0] == 0
    for lost in (out / "film.mp4" / "video").glob("[1i]*.m4s" if not options else "*.mp4"):
        lost.unlink()
    (out / "film.mp4" / "video" / "media.m3u8").unlink()
    status, text = said(out)
    assert status == 1
    assert "media.m3u8: answers 404" in text
    assert ("has an indexRange without an index" if options else "isn't there") in text
    assert "no master.m3u8" in said(tmp_path / "out" / "film.mp4" / "audio")[1]
