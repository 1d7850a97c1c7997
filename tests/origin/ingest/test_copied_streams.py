"""A publisher's own picture goes out as it came, beside an encoded one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fork_server import run_headwater
from tests.origin.ingest.studio import KEY, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.mark.clause("A publisher whose stream can't be cut as the channel's is told why, and viewers stay")
def test_other_sizes_follow_and_key_frames_that_are_too_far_apart_are_refused(tmp_path: Path) -> None:
    keys = 'ladder = ["source", "240p"]\n'
    with studio(tmp_path, more=keys, ladder=False) as one:
        address = f"{one.address}?key={KEY}"
        with encoding(*encoder_arguments(rate=25).split(), "-method", "PUT", address):
            first = one.wait_for_timeline()
        assert one.media_playlist(rendition="source")
        large = encoder_arguments("flv", "320x240", 25).split()
        with encoding(*large, "-method", "PUT", address):
            second = one.wait_for_timeline(first)
            url = f"{one.server.url}/live/studio/master.m3u8"
            run = run_headwater("check", url)
            assert run.returncode == 0, run.stdout
        one.wait_for_state("idle")
        rare = encoder_arguments("matroska", rate=25, more="-g 250").split()
        with encoding(*rare, "-method", "PUT", address) as encoder:
            assert encoder.wait(CLIENT_SECONDS) is not None
        told = wait_for(lambda: one.channel()["publisher"]["last_error"], "the reason")
        assert "key frames are too far apart for segments of 1 s" in told
        with encoding(*large, "-method", "PUT", address):
            one.wait_for_timeline(second)
