"""``headwater check`` finds open groups, intra-refresh and variants cut differently in others' VOD."""

from __future__ import annotations

import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import HEADWATER
from tests.packager.films import run_ffmpeg

CLAIMED = "can't be decoded alone, though EXT-X-INDEPENDENT-SEGMENTS says so"
APART = "variants aren't cut alike"
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "3")


def variant(folder: Path, name: str, group: int, *words: str) -> str:
    """Let ffmpeg's own packager make a rendition; give what a multivariant playlist says of it."""
    (folder / name).mkdir()
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=12")
    settings = ("-g", str(group), "-hls_time", "2", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4")
    run_ffmpeg(*source, *words, *settings, folder / name / "media.m3u8")
    told = 'BANDWIDTH=500000,RESOLUTION=320x180,CODECS="avc1.64000c"'
    return f"#EXT-X-STREAM-INF:{told}\n{name}/media.m3u8\n"


def findings(folder: Path, *variants: str, independent: bool = True) -> str:
    head = "#EXTM3U\n#EXT-X-VERSION:6\n" + "#EXT-X-INDEPENDENT-SEGMENTS\n" * independent
    (folder / "master.m3u8").write_text(head + "".join(variants))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        words = [str(HEADWATER), "check", f"http://127.0.0.1:{server.server_port}/master.m3u8"]
        return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False).stdout
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("settings", "independent"),
    [("scenecut=0", True), ("scenecut=0:open-gop=1", False), ("scenecut=0:intra-refresh=1", False)],
)
def test_a_claim_of_independent_segments_is_held_against_them(
    settings: str, independent: bool, tmp_path: Path
) -> None:
    told = variant(tmp_path, "one", 50, *X264, "-x264-params", settings)
    assert (CLAIMED in findings(tmp_path, told)) is not independent
    assert CLAIMED not in findings(tmp_path, told, independent=False)


def test_variants_that_are_cut_differently_are_named_with_the_place(tmp_path: Path) -> None:
    one = variant(tmp_path, "one", 50, *X264, "-sc_threshold", "0")
    other = variant(tmp_path, "other", 60, *X264, "-sc_threshold", "0")
    same = variant(tmp_path, "same", 50, *X264, "-sc_threshold", "0", "-vf", "scale=160:90")
    said = findings(tmp_path, one, other)
    assert f"{APART}, so no player can change between them: segment 1 begins at 2.000 s in" in said
    assert "and at 2.400 s in" in said
    assert "/other/media.m3u8" in said
    assert APART not in findings(tmp_path, one, same)
