"""``headwater check`` judges the newest segments of live DASH manifests, as ffmpeg's packager writes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from origin.cli.checks.manifest_reader import LIVE_SEGMENTS, read_manifest
from tests.origin.cli.judgements import findings_in
from tests.waiting import wait_for

SEGMENTS = 8
OF_SERVER = ("has no Cache-Control", "has Content-Type")
"""What Python's own server lacks."""


def on_air(folder: Path, timeline: int) -> str:
    """Have ffmpeg write a live manifest with eight segments of a second, and leave it without an end."""
    picture = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25")
    sound = ("-f", "lavfi", "-i", "sine=440:sample_rate=48000")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac")
    dash = ("-f", "dash", "-seg_duration", "1", "-use_timeline", str(timeline), "-window_size", "50")
    command = ("ffmpeg", "-v", "error", "-re", *picture, *sound, *codecs, *dash)
    with subprocess.Popen((*command, str(folder / "it.mpd"))) as packager:
        wait_for(
            lambda: len(list(folder.glob("chunk-stream*.m4s"))) >= 2 * SEGMENTS, "segments of both streams"
        )
        packager.kill()
    text = (folder / "it.mpd").read_text()
    assert 'type="dynamic"' in text
    return text


@pytest.mark.usefixtures("quick_tools")
@pytest.mark.clause("ISO/IEC 23009-1 §5.3.9.6")
def test_the_newest_segments_of_a_timeline_are_read(tmp_path: Path) -> None:
    text = on_air(tmp_path, 1)
    said = findings_in(tmp_path, "it.mpd").splitlines()
    assert [line for line in said if not any(words in line for words in OF_SERVER)] == []
    ((video,), (audio,)) = read_manifest("http://a/it.mpd", text, 4e9)
    assert (len(video.segments), len(audio.segments)) == (LIVE_SEGMENTS, LIVE_SEGMENTS)
    # The last one but one that the manifest lists.
    missing = tmp_path / video.segments[-1].url.rpartition("/")[2]
    missing.write_bytes(missing.read_bytes()[:1000])
    assert missing.name in findings_in(tmp_path, "it.mpd")
    missing.unlink()
    assert f"{missing.name} isn't there: 404" in findings_in(tmp_path, "it.mpd")


BY_NUMBER = """<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" {begin}>
<Period {first}/><Period {second}><AdaptationSet contentType="video"><Representation id="v">
<SegmentTemplate media="$Number$.m4s" duration="4" timescale="2" startNumber="10"/>
</Representation></AdaptationSet></Period><Period start="PT5000S"/></MPD>"""


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.9.5.3")
@pytest.mark.parametrize("second", ['start="PT100S"', ""], ids=["a start", "the end of the one before"])
@pytest.mark.parametrize(
    ("elapsed", "numbers"),
    [(101.9, []), (103.9, []), (104.0, [10]), (121.9, [16, 17, 18]), (122.0, [17, 18, 19])],
)
def test_the_newest_segments_by_number_are_those_that_the_clock_has_completed(
    second: str, elapsed: float, numbers: list[int]
) -> None:
    text = BY_NUMBER.format(
        begin='availabilityStartTime="2001-09-09T01:46:40Z"',
        first='start="PT0S" duration="PT100S"',
        second=second,
    )
    ((found,),) = read_manifest("http://a/b/it.mpd", text, 1_000_000_000 + elapsed)
    # The newest one is left out, since clocks differ: at 104 s, segment 11 has just been completed.
    assert [one.url for one in found.segments] == [f"http://a/b/{number}.m4s" for number in numbers]
