"""How a live channel is delivered (RFC 8216bis §6.2.1, Appendix B): what is kept, coded, sent in ranges."""

from __future__ import annotations

import gzip
import re

import pytest

from tests.conformance.handfed import AUDIO, NUMBER, PATH, TARGET, HandFed
from tests.conformance.raw import Client


@pytest.mark.clause("RFC 8216bis §6.2.2 SHOULD 2", "RFC 8216bis Appendix B")
def test_playlists_and_errors_keep_by_appendix_b(fed: HandFed) -> None:
    # TD is 1: half of it is rounded up, since no second is shorter than one.
    kept = {
        "/live/test/master.m3u8": 1,
        PATH: 1,
        f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0": 6,
        f"{PATH}?_HLS_msn={NUMBER + 99}": 4,
        f"{PATH}?_HLS_part=0": 4,
        "/live/test/240p/1.m4s": 1,
        "/live/test/none/media.m3u8": 1,
        "/live/test/none/media.m3u8?_HLS_msn=1&_HLS_part=0": 4,
        "/live/test/none/1.m4s": 1,
    }
    for path, seconds in kept.items():
        answer = fed.ask(path)
        assert answer["cache-control"] == f"public, max-age={seconds}", path
        assert "age" not in answer
    media = fed.ask(f"/live/test/240p/{NUMBER + 7}.m4s")["cache-control"]
    found = re.fullmatch(r"public, max-age=(\d+), immutable", media)
    assert found is not None
    assert int(found[1]) >= 10 * TARGET


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 4", "RFC 9110 §8.4")
def test_playlists_are_gzipped_on_request_and_media_never_is(fed: HandFed) -> None:
    for path in (PATH, AUDIO, "/live/test/master.m3u8"):
        plain, coded = fed.ask(path), fed.ask(path, "Accept-Encoding: gzip")
        assert coded["content-encoding"] == "gzip"
        assert gzip.decompress(coded.body) == plain.body
        assert plain["vary"] == coded["vary"] == "Accept-Encoding"
        assert plain["etag"] != coded["etag"]
        assert plain["content-type"] == "application/vnd.apple.mpegurl"
        head = fed.ask(path, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head["content-length"] == plain["content-length"]
        assert fed.ask(path, f"If-None-Match: {plain['etag']}").status == 304
    media = f"/live/test/240p/{NUMBER + 7}.m4s"
    whole = fed.ask(media, "Accept-Encoding: gzip")
    assert "content-encoding" not in whole


@pytest.mark.clause("RFC 9110 §14.2")
@pytest.mark.parametrize("name", [f"{NUMBER + 7}.m4s", f"{NUMBER + 8}.0.m4s", f"init-{NUMBER}.mp4"])
def test_segments_and_parts_support_ranges_as_files_do(fed: HandFed, name: str) -> None:
    path = f"/live/test/240p/{name}"
    whole = fed.ask(path)
    assert whole["accept-ranges"] == "bytes"
    some = fed.ask(path, "Range: bytes=-8")
    assert (some.status, some.body) == (206, whole.body[-8:])
    assert some["content-range"] == f"bytes {len(whole.body) - 8}-{len(whole.body) - 1}/{len(whole.body)}"
    beyond = fed.ask(path, f"Range: bytes={len(whole.body)}-")
    assert beyond.status == 416
    assert fed.ask(path, method="HEAD")["content-length"] == str(len(whole.body))
    assert fed.ask(path, f"If-None-Match: {whole['etag']}").status == 304


@pytest.mark.clause("Names that are not there leave nothing behind", "RFC 8216bis §6.2.1 SHOULD 8")
def test_names_of_channels_that_are_not_there_leave_nothing_behind(fed: HandFed) -> None:
    """A constant answer for any number of names, and no state for any of them."""
    with Client(fed.address) as client:
        answers = {
            (answer.status, answer.body, answer["cache-control"])
            for answer in (client.ask(f"/live/{name}/master.m3u8") for name in range(200))
        }
    assert answers == {(404, b"Not Found\n", "public, max-age=2")}
    assert fed.channel.stream.viewers <= 1
