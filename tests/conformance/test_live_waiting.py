"""Requests that wait for what a live channel is to publish (RFC 8216bis §6.2.5)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import (
    HELD_TARGET_DURATIONS,
    NUMBER,
    PARTS,
    PATH,
    TARGET,
    HandFed,
    Track,
    on_air,
    parts_of,
    segments_of,
)
from tests.conformance.raw import Answer
from tests.waiting import wait_for


class Asking:
    """Requests that wait on the server, from threads."""

    def __init__(self, fed: HandFed, pool: ThreadPoolExecutor) -> None:
        self._fed, self._pool = fed, pool

    def __call__(self, target: str, *, blocked: int = 1) -> Future[Answer]:
        answer = self._pool.submit(self._fed.ask, target)
        wait_for(lambda: self._fed.channel.stream.blocked == blocked, f"{target} to wait")
        return answer


@pytest.fixture
def asking(fed: HandFed) -> Iterator[Asking]:
    with ThreadPoolExecutor(8) as pool:
        yield Asking(fed, pool)


@pytest.mark.clause("RFC 8216bis §6.2.5.2 SHOULD 1", "RFC 8216bis §6.2.5.2 MUST 6")
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_HLS_part=0", 400),
        ("_HLS_msn=1x", 400),
        ("_HLS_msn=-1", 400),
        ("_HLS_msn=", 400),
        ("_HLS_msn=1&_HLS_msn=2", 400),
        ("_HLS_msn=1&_HLS_part=a", 400),
        (f"_HLS_msn={10**9 * 9}", 400),
        (f"_HLS_msn={NUMBER + 8}&_HLS_part=99999", 400),
        (f"_HLS_msn={NUMBER + 11}", 400),
        ("_HLS_skip=v9", 200),
        ("_HLS_skip=yes", 200),
        (f"_HLS_msn={NUMBER}", 200),
        (f"_HLS_msn={NUMBER + 8}&_HLS_part=1", 200),
        ("_HLS_future=1", 200),
    ],
)
def test_a_directive_is_obeyed_ignored_or_refused_at_once(fed: HandFed, query: str, status: int) -> None:
    begin = time.monotonic()
    answer = fed.ask(f"{PATH}?{query}")
    assert answer.status == status
    # Nothing of it waits: who waits for nothing does so for much longer.
    assert time.monotonic() - begin < HELD_TARGET_DURATIONS * TARGET
    assert fed.channel.stream.blocked == 0
    if status == 200:
        assert "EXT-X-SKIP" not in answer.body.decode()


@pytest.mark.clause("RFC 8216bis §6.2.5.2")
def test_the_part_that_hls_js_asks_for_after_a_finished_segment_is_waited_for(
    fed: HandFed, asking: Asking
) -> None:
    fed.publish(PARTS - 2)
    # The segment 8 is finished with five parts; hls.js asks for the same last index of the next one.
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 9}&_HLS_part={PARTS - 1}")
    fed.publish(PARTS - 1)
    time.sleep(0.05)
    assert not held.done()
    fed.publish(1)
    assert (NUMBER + 9, PARTS - 1) in parts_of(held.result().body.decode())


@pytest.mark.clause("RFC 8216bis §6.2.5.2 MUST 2")
def test_an_answer_waits_for_the_part_and_contains_it(fed: HandFed, asking: Asking) -> None:
    assert (NUMBER + 8, 1) in parts_of(fed.text(f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=1"))
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=2")
    # The other rendition's part changes nothing here.
    fed.publish(1, "audio")
    time.sleep(0.05)
    assert not held.done()
    fed.publish(1, "240p")
    assert parts_of(held.result().body.decode())[-1] == (NUMBER + 8, 2)


@pytest.mark.clause("RFC 8216bis §6.2.5.2 MUST 1")
def test_a_number_alone_waits_for_the_whole_segment(fed: HandFed, asking: Asking) -> None:
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}")
    fed.publish(PARTS - 3)
    time.sleep(0.05)
    assert not held.done()
    fed.publish(1)
    assert segments_of(held.result().body.decode())[-1] == NUMBER + 8


@pytest.mark.clause("RFC 8216bis §6.2.5.2 MUST 3")
def test_a_part_past_a_finished_segments_last_is_part_0_of_the_next(fed: HandFed, asking: Asking) -> None:
    fed.publish(PARTS - 2)
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part={PARTS}")
    fed.publish(1)
    assert parts_of(held.result().body.decode())[-1] == (NUMBER + 9, 0)


@pytest.mark.clause("RFC 8216bis §6.2.5.2 MUST 4")
def test_a_number_that_has_left_gets_the_whole_current_playlist_at_once(fed: HandFed) -> None:
    fed.publish(10 * PARTS)
    plain = fed.text()
    assert segments_of(plain)[0] > NUMBER
    assert fed.text(f"{PATH}?_HLS_msn={NUMBER}&_HLS_part=3") == plain


@pytest.mark.clause("RFC 8216bis §6.2.5.2 SHOULD 2")
def test_who_waits_longer_than_three_target_durations_gets_503(
    material: dict[str, Track], tools: Tools, tmp_path: Path
) -> None:
    with on_air(material, tools, tmp_path, patient=False) as fed:
        fed.publish(8 * PARTS + 2)
        begin = time.monotonic()
        answer = fed.ask(f"{PATH}?_HLS_msn={NUMBER + 9}")
        assert answer.status == 503
        # The loop's clock has milliseconds, and may be one of them early.
        assert time.monotonic() - begin > 3 * TARGET - 0.1
        assert answer["cache-control"] == "public, max-age=4"
        assert answer["retry-after"] == "4", "until then a cache would give this answer again"


@pytest.mark.clause("RFC 8216bis §6.2.5.2")
def test_the_end_of_the_server_releases_who_waits(fed: HandFed, asking: Asking) -> None:
    held = [
        asking(f"{PATH}?_HLS_msn={NUMBER + 9}&_HLS_part={index}", blocked=index + 1) for index in range(4)
    ]
    begin = time.monotonic()
    fed.in_loop(fed.channel.close)
    assert [each.result().status for each in held] == [503] * 4
    assert time.monotonic() - begin < HELD_TARGET_DURATIONS * TARGET


@pytest.mark.clause("RFC 8216bis §6.2.5.2")
def test_a_source_that_dies_releases_who_waits_for_its_segment(fed: HandFed, asking: Asking) -> None:
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}")
    fed.restart()
    assert segments_of(held.result().body.decode())[-1] == NUMBER + 8


@pytest.mark.clause(
    "RFC 8216bis §6.2.1 MUST 20",
    "RFC 8216bis §6.2.2 SHOULD 1",
    "RFC 8216bis §6.2.5.1 MUST 5",
    "RFC 8216bis §6.2.5.2 MUST 5",
    "RFC 8216bis §6.2.6 SHOULD 3",
    "RFC 8216bis §6.2.5",
)
def test_an_ended_channel_has_no_hint_and_ignores_directives(fed: HandFed, asking: Asking) -> None:
    playlist = asking(f"{PATH}?_HLS_msn={NUMBER + 9}&_HLS_part=0")
    hinted = asking(f"/live/test/240p/{NUMBER + 8}.2.m4s", blocked=2)
    fed.end()
    assert playlist.result().body.decode().endswith("#EXT-X-ENDLIST\n")
    # §6.2.6: a hinted part that never comes.
    assert hinted.result().status == 404
    plain = fed.text()
    assert plain.endswith("#EXT-X-ENDLIST\n")
    # §6.2.1: nothing is at the live edge any more; what had been listed stays fetchable (§6.2.2).
    assert "PRELOAD-HINT" not in plain
    assert "EXT-X-PART:" not in plain
    assert fed.ask(f"/live/test/240p/{NUMBER + 8}.1.m4s").status == 200
    assert segments_of(plain)[-1] == NUMBER + 8
    for query in (f"_HLS_msn={NUMBER + 99}", f"_HLS_msn={NUMBER + 99}&_HLS_part=7", "_HLS_skip=YES"):
        assert fed.text(f"{PATH}?{query}") == plain
    # §6.2.5.2: the 400 for a part without a number has no exception for ended playlists.
    assert fed.ask(f"{PATH}?_HLS_part=0").status == 400


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 9", "RFC 8216bis §6.2.5.2")
def test_all_who_wait_for_the_same_part_get_the_same_bytes(fed: HandFed, asking: Asking) -> None:
    held = [asking(f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=2", blocked=count) for count in range(1, 7)]
    fed.publish(1, "240p")
    assert len({each.result().body for each in held}) == 1
    assert len({each.result()["etag"] for each in held}) == 1


@pytest.mark.clause(
    "RFC 8216bis §6.2.6 MUST 1",
    "RFC 8216bis §6.2.6 MUST 2",
    "RFC 8216bis §6.2.6 SHOULD 6",
    "RFC 8216bis §4.4.5.3",
)
def test_the_hint_is_the_uri_that_the_next_part_then_has(fed: HandFed, asking: Asking) -> None:
    for _ in range(2 * PARTS):
        (hint,) = re.findall(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', fed.text())
        held = asking(f"/live/test/240p/{hint}")
        fed.publish(1)
        answer = held.result()
        assert answer.status == 200
        assert answer.body[4:8] == b"moof"
        assert int(answer["content-length"]) == len(answer.body)
        assert fed.text().count(f'URI="{hint}"') == 1
        assert fed.ask(f"/live/test/240p/{hint}").body == answer.body


@pytest.mark.clause("RFC 8216bis §6.2.6 SHOULD 2", "RFC 8216bis §4.4.5.3")
@pytest.mark.parametrize(
    "name", ["99.m4s", f"{NUMBER + 8}.9.m4s", f"{NUMBER + 9}.0.m4s", "x.m4s", "init-1.mp4"]
)
def test_an_unknown_name_is_not_found_at_once(fed: HandFed, name: str) -> None:
    begin = time.monotonic()
    assert fed.ask(f"/live/test/240p/{name}").status == 404
    assert time.monotonic() - begin < HELD_TARGET_DURATIONS * TARGET
