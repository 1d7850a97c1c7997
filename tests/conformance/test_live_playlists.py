"""Playlists of a live channel on the wire (RFC 8216bis §6.2), line by line of what players are owed."""

from __future__ import annotations

import gzip
import itertools
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import pytest

from packager.tools import Tools
from tests.conformance.handfed import (
    NUMBER,
    PARTS,
    HandFed,
    Track,
    make_material,
    on_air,
    parts_of,
    segments_of,
)
from tests.conformance.raw import Answer, Client, wait_for

PATH = "/live/test/240p/media.m3u8"
AUDIO = "/live/test/audio/media.m3u8"
TARGET = 1


@pytest.fixture(scope="module")
def material(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Track]:
    return make_material(tools, tmp_path_factory.mktemp("material"))


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    """A channel with eight segments and two parts."""
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS + 2)
        yield fed


def ask(fed: HandFed, target: str, *fields: str, method: str = "GET") -> Answer:
    with Client(fed.address) as client:
        return client.ask(target, *fields, method=method)


def text(fed: HandFed, target: str = PATH) -> str:
    answer = ask(fed, target)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def dates(playlist: str) -> list[float]:
    found = re.findall(r"PROGRAM-DATE-TIME:(\S+)Z", playlist)
    return [datetime.fromisoformat(date + "+00:00").timestamp() for date in found]


class Asking:
    """Requests that wait on the server, from threads."""

    def __init__(self, fed: HandFed, pool: ThreadPoolExecutor) -> None:
        self._fed, self._pool = fed, pool

    def __call__(self, target: str, *, blocked: int = 1) -> Future[Answer]:
        answer = self._pool.submit(ask, self._fed, target)
        wait_for(lambda: self._fed.channel.blocked == blocked, f"{target} to wait")
        return answer


@pytest.fixture
def asking(fed: HandFed) -> Iterator[Asking]:
    with ThreadPoolExecutor(8) as pool:
        yield Asking(fed, pool)


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
def test_line_1_and_2_a_directive_is_obeyed_ignored_or_refused_at_once(
    fed: HandFed, query: str, status: int
) -> None:
    begin = time.monotonic()
    answer = ask(fed, f"{PATH}?{query}")
    assert answer.status == status
    # Nothing of it waits: the longest wait is three target durations.
    assert time.monotonic() - begin < 2
    assert fed.channel.blocked == 0
    if status == 200:
        assert "EXT-X-SKIP" not in answer.body.decode()


def test_line_2_the_part_that_hls_js_asks_for_after_a_finished_segment_is_waited_for(
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


def test_line_3_an_answer_waits_for_the_part_and_contains_it(fed: HandFed, asking: Asking) -> None:
    assert (NUMBER + 8, 1) in parts_of(text(fed, f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=1"))
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=2")
    # The other rendition's part changes nothing here.
    fed.publish(1, "audio")
    time.sleep(0.05)
    assert not held.done()
    fed.publish(1, "240p")
    assert parts_of(held.result().body.decode())[-1] == (NUMBER + 8, 2)


def test_line_4_a_number_alone_waits_for_the_whole_segment(fed: HandFed, asking: Asking) -> None:
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}")
    fed.publish(PARTS - 3)
    time.sleep(0.05)
    assert not held.done()
    fed.publish(1)
    assert segments_of(held.result().body.decode())[-1] == NUMBER + 8


def test_line_4_a_part_past_a_finished_segments_last_is_part_0_of_the_next(
    fed: HandFed, asking: Asking
) -> None:
    fed.publish(PARTS - 2)
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part={PARTS}")
    fed.publish(1)
    assert parts_of(held.result().body.decode())[-1] == (NUMBER + 9, 0)


def test_line_5_a_number_that_has_left_gets_the_whole_current_playlist_at_once(fed: HandFed) -> None:
    fed.publish(10 * PARTS)
    plain = text(fed)
    assert segments_of(plain)[0] > NUMBER
    assert text(fed, f"{PATH}?_HLS_msn={NUMBER}&_HLS_part=3") == plain


def test_line_6_who_waits_longer_than_three_target_durations_gets_503(fed: HandFed) -> None:
    begin = time.monotonic()
    answer = ask(fed, f"{PATH}?_HLS_msn={NUMBER + 9}")
    assert answer.status == 503
    assert answer["retry-after"] == str(TARGET)
    assert 3 * TARGET <= time.monotonic() - begin < 3 * TARGET + 5
    assert answer["cache-control"] == "public, max-age=4"


def test_line_6_the_end_of_the_server_releases_who_waits(fed: HandFed, asking: Asking) -> None:
    held = [
        asking(f"{PATH}?_HLS_msn={NUMBER + 9}&_HLS_part={index}", blocked=index + 1) for index in range(4)
    ]
    begin = time.monotonic()
    fed.in_loop(fed.channel.close)
    assert [each.result().status for each in held] == [503] * 4
    assert time.monotonic() - begin < 2


def test_line_6_a_source_that_dies_releases_who_waits_for_its_segment(fed: HandFed, asking: Asking) -> None:
    held = asking(f"{PATH}?_HLS_msn={NUMBER + 8}")
    fed.restart()
    assert segments_of(held.result().body.decode())[-1] == NUMBER + 8


def test_line_7_an_ended_channel_has_no_hint_and_ignores_directives(fed: HandFed, asking: Asking) -> None:
    playlist = asking(f"{PATH}?_HLS_msn={NUMBER + 9}&_HLS_part=0")
    hinted = asking(f"/live/test/240p/{NUMBER + 8}.2.m4s", blocked=2)
    fed.end()
    assert playlist.result().body.decode().endswith("#EXT-X-ENDLIST\n")
    # Line 14: a hinted part that never comes.
    assert hinted.result().status == 404
    plain = text(fed)
    assert plain.endswith("#EXT-X-ENDLIST\n")
    assert "PRELOAD-HINT" not in plain
    assert segments_of(plain)[-1] == NUMBER + 8
    for query in (f"_HLS_msn={NUMBER + 99}", f"_HLS_msn={NUMBER + 99}&_HLS_part=7", "_HLS_skip=YES"):
        assert text(fed, f"{PATH}?{query}") == plain
    # §6.2.5.2 M6 has no exception for ended playlists.
    assert ask(fed, f"{PATH}?_HLS_part=0").status == 400


def test_line_8_all_who_wait_for_the_same_part_get_the_same_bytes(fed: HandFed, asking: Asking) -> None:
    held = [asking(f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=2", blocked=count) for count in range(1, 7)]
    fed.publish(1, "240p")
    assert len({each.result().body for each in held}) == 1
    assert len({each.result()["etag"] for each in held}) == 1


def test_line_9_tokens_are_on_every_uri_and_directives_on_none(fed: HandFed) -> None:
    hostile = "token=a%22%0d%0a%3Cb%3E&x=%E2%82%AC"
    for path in (PATH, "/live/test/master.m3u8"):
        playlist = text(fed, f"{path}?{hostile}&_HLS_msn={NUMBER + 8}&_HLS_part=0&_HLS_skip=YES")
        uris = re.findall(r'URI="([^"]*)"', playlist) + re.findall(r"^[^#\n].*$", playlist, re.MULTILINE)
        assert len(uris) >= 2
        # RFC 3986 §2.1, upper case by §6.2.2.1
        assert {uri.partition("?")[2] for uri in uris} == {"token=a%22%0D%0A%3Cb%3E&x=%E2%82%AC"}
        assert "_HLS_" not in playlist
        for line in playlist.splitlines():
            assert line.startswith("#EXT") or line.partition("?")[0].endswith((".m4s", ".m3u8")), line


def test_line_10_targets_are_constant_and_parts_fill_them(fed: HandFed) -> None:
    targets = set()
    for name, sound in ((PATH, False), (AUDIO, True)):
        for _ in range(3):
            fed.publish(3)
            playlist = text(fed, name)
            targets.add(tuple(re.findall(r"(?:PART-TARGET=|TARGETDURATION:)([0-9.]+)", playlist)))
            parts = [Fraction(one) for one in re.findall(r"EXT-X-PART:DURATION=([0-9.]+)", playlist)]
            names = parts_of(playlist)
            assert max(parts) <= Fraction("0.256")
            for (number, _), (following, _), part in zip(names, names[1:], parts, strict=False):
                # §4.4.3.7: unless it is its segment's last, or the next one begins with a key frame
                if number == following:
                    assert part >= Fraction("0.85") * Fraction("0.256"), sound
    assert targets == {("1", "0.25600")}


def test_line_12_durations_round_to_the_target_and_parts_make_up_their_segment(fed: HandFed) -> None:
    for name in (PATH, AUDIO):
        playlist = text(fed, name)
        for duration in re.findall(r"#EXTINF:([0-9.]+),", playlist):
            assert int(Fraction(duration) + Fraction(1, 2)) <= TARGET
        body = playlist[playlist.index(f"\n{NUMBER + 6}.m4s") :]
        parts, segment = body.split(f"\n{NUMBER + 7}.m4s")[0].split("#EXTINF:")
        total = sum(Fraction(one) for one in re.findall(r"PART:DURATION=([0-9.]+)", parts))
        # Each is rounded to 10 µs.
        assert abs(total - Fraction(segment.rstrip(","))) <= Fraction(PARTS, 10**5)


def test_line_13_and_21_what_one_rendition_lacks_is_a_gap_at_the_same_place(fed: HandFed) -> None:
    fed.publish(PARTS, "audio")
    fed.restart(3)
    fed.publish(PARTS)
    picture, sound = text(fed), text(fed, AUDIO)
    assert segments_of(picture)[-1] == segments_of(sound)[-1]
    # The picture has two parts of segment 8, the sound had gone on into segment 9.
    assert re.search(rf"#EXT-X-GAP\n#EXTINF:[0-9.]+,\n{NUMBER + 9}\.m4s", picture)
    assert "#EXT-X-GAP" not in sound
    assert ask(fed, f"/live/test/240p/{NUMBER + 9}.m4s").status == 404
    assert [one.split("#EXT-X-DISCONTINUITY\n")[1].count("#EXTINF") for one in (picture, sound)] == [1, 1]


def test_line_14_the_hint_is_the_uri_that_the_next_part_then_has(fed: HandFed, asking: Asking) -> None:
    for _ in range(2 * PARTS):
        (hint,) = re.findall(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', text(fed))
        held = asking(f"/live/test/240p/{hint}")
        fed.publish(1)
        answer = held.result()
        assert answer.status == 200
        assert answer.body[4:8] == b"moof"
        assert int(answer["content-length"]) == len(answer.body)
        assert text(fed).count(f'URI="{hint}"') == 1
        assert ask(fed, f"/live/test/240p/{hint}").body == answer.body


@pytest.mark.parametrize(
    "name", ["99.m4s", f"{NUMBER + 8}.9.m4s", f"{NUMBER + 9}.0.m4s", "x.m4s", "init-1.mp4"]
)
def test_line_14_an_unknown_name_is_not_found_at_once(fed: HandFed, name: str) -> None:
    begin = time.monotonic()
    assert ask(fed, f"/live/test/240p/{name}").status == 404
    assert time.monotonic() - begin < 2


def test_line_15_server_control_holds_back_as_much_as_the_draft_wants(fed: HandFed) -> None:
    controls = set()
    for path in (PATH, AUDIO):
        (line,) = re.findall(r"#EXT-X-SERVER-CONTROL:(.*)", text(fed, path))
        controls.add(line)
        told = dict(attribute.split("=") for attribute in line.split(","))
        assert told["CAN-BLOCK-RELOAD"] == "YES"
        assert Fraction(told["PART-HOLD-BACK"]) >= 3 * Fraction("0.256")
        assert Fraction(told["HOLD-BACK"]) >= 3 * TARGET
        assert Fraction(told["CAN-SKIP-UNTIL"]) >= 6 * TARGET
    # §6.2.4: the same in all playlists
    assert len(controls) == 1


@pytest.mark.parametrize("value", ["YES", "v2"])
def test_line_16_what_is_skipped_and_the_rest_make_the_full_playlist(fed: HandFed, value: str) -> None:
    fed.publish(6 * PARTS)
    full, delta = text(fed), text(fed, f"{PATH}?_HLS_skip={value}")
    (skipped,) = re.findall(r"#EXT-X-SKIP:SKIPPED-SEGMENTS=(\d+)", delta)
    (version,) = re.findall(r"#EXT-X-VERSION:(\d+)", delta)
    assert int(version) >= 9
    whole, rest = segments_of(full), segments_of(delta)
    assert whole == whole[: int(skipped)] + rest
    assert delta.endswith(full[full.index(f"\n{whole[int(skipped)]}.m4s") :])
    assert sum(Fraction(one) for one in re.findall(r"#EXTINF:([0-9.]+)", delta)) >= 6 * TARGET
    # the tags of a skipped segment are skipped with it; those of the rest all stay
    tags = full[: full.index(f"\n{whole[int(skipped)]}.m4s")].split(f"{whole[int(skipped) - 1]}.m4s\n")[1]
    assert tags in delta


def test_line_17_rendition_reports_are_true_at_the_time_of_answering(fed: HandFed) -> None:
    for parts in (0, 1, 2):
        fed.publish(parts, "audio")
        last = parts_of(text(fed, AUDIO))[-1]
        (report,) = re.findall(r"#EXT-X-RENDITION-REPORT:(.*)", text(fed))
        assert report == f'URI="../audio/media.m3u8",LAST-MSN={last[0]},LAST-PART={last[1]}'
    (report,) = re.findall(r"#EXT-X-RENDITION-REPORT:(.*)", text(fed, AUDIO))
    assert report == f'URI="../240p/media.m3u8",LAST-MSN={NUMBER + 8},LAST-PART=1'


def test_line_18_part_tags_go_three_targets_behind_the_end_and_stay_fetchable_as_long_again(
    fed: HandFed,
) -> None:
    seen: dict[tuple[int, int], int] = {}
    for step in range(12):
        listed = parts_of(text(fed))
        assert listed[0][0] >= NUMBER + 8 + step - 4
        for part in listed:
            seen[part] = step
        for (number, index), last in seen.items():
            if step - last <= 3:
                assert ask(fed, f"/live/test/240p/{number}.{index}.m4s").status == 200
        fed.publish(PARTS)


def test_line_18_segments_stay_listed_and_then_fetchable_as_long_as_they_must(fed: HandFed) -> None:
    first, longest = 0, 0
    for step in range(26):
        listed = segments_of(text(fed))
        assert len(listed) >= 7
        # §6.2.2: one by one, in order
        assert listed == list(range(listed[0], listed[-1] + 1))
        longest = max(longest, len(listed))
        first = listed[0]
        if step % 5 == 0:
            # Fetchable until its first appearance plus its own duration and the longest playlist's.
            for age in (0, longest // 2, longest):
                number = max(listed[-1] - age, NUMBER)
                assert ask(fed, f"/live/test/240p/{number}.m4s", method="HEAD").status == 200
        fed.publish(PARTS)
    assert first > NUMBER
    assert ask(fed, f"/live/test/240p/{NUMBER}.m4s").status == 404


def test_line_19_dates_are_on_every_segment_and_agree_to_a_frame(fed: HandFed) -> None:
    picture, sound = dates(text(fed)), dates(text(fed, AUDIO))
    # The eight segments and the open one; segment NUMBER + k begins at that second of the epoch.
    assert picture == [NUMBER + k for k in range(9)]
    assert all(0 <= b - a < 1024 / 48000 + 0.001 for a, b in zip(picture, sound, strict=True))


def test_line_20_numbers_never_go_back_and_a_number_always_means_the_same_bytes(fed: HandFed) -> None:
    before = {number: ask(fed, f"/live/test/240p/{number}.m4s").body for number in segments_of(text(fed))}
    sequences = []
    for _ in range(3):
        fed.restart(1)
        fed.publish(PARTS)
        sequences.append(int(re.findall(r"MEDIA-SEQUENCE:(\d+)", text(fed))[0]))
    assert sequences == sorted(sequences)
    numbers = segments_of(text(fed))
    assert len(set(numbers)) == len(numbers)
    assert {number: ask(fed, f"/live/test/240p/{number}.m4s").body for number in before} == before


def test_line_21_a_source_that_comes_back_begins_behind_a_discontinuity_and_is_counted(
    fed: HandFed,
) -> None:
    fed.restart(30)
    fed.publish(2)
    for path in (PATH, AUDIO):
        lines = text(fed, path).splitlines()
        at = lines.index("#EXT-X-DISCONTINUITY")
        assert lines[at + 1] == f'#EXT-X-MAP:URI="init-{NUMBER + 9}.mp4"'
        assert lines[at + 2].startswith("#EXT-X-PROGRAM-DATE-TIME:")
        assert lines[at + 3].startswith("#EXT-X-PART:")
    first, *_, last = dates(text(fed))
    assert last - first == 9 + 30
    assert ask(fed, f"/live/test/240p/init-{NUMBER + 9}.mp4").body[4:8] == b"ftyp"
    history = []
    for _ in range(20):
        fed.publish(PARTS)
        playlist = text(fed)
        sequence = int(re.findall(r"DISCONTINUITY-SEQUENCE:(\d+)", playlist)[0])
        history.append((segments_of(playlist)[0], sequence, playlist.count("#EXT-X-DISCONTINUITY\n")))
    # §6.2.2: the sum never changes, so that each segment keeps its number
    assert {sequence + tags for _, sequence, tags in history} == {1}
    assert {sequence for number, sequence, _ in history if number <= NUMBER + 9} == {0}
    assert history[-1][1] == 1


def test_line_22_a_sliding_window_has_no_playlist_type(fed: HandFed) -> None:
    assert "PLAYLIST-TYPE" not in text(fed)
    assert "ENDLIST" not in text(fed)


def test_line_23_the_multivariant_playlist_tells_what_the_bitstream_says(fed: HandFed) -> None:
    playlist = text(fed, "/live/test/master.m3u8")
    assert "\n#EXT-X-INDEPENDENT-SEGMENTS\n" in playlist
    # x264 ultrafast of 128x72 at 30 frames a second: constrained baseline, level 1.1 (ISO/IEC 14496-10 A.3.1)
    assert re.search(r'CODECS="avc1\.42c0[0-9a-f]{2},mp4a\.40\.2"', playlist)
    assert "RESOLUTION=128x72" in playlist
    assert "FRAME-RATE=30.000" in playlist
    numbers = segments_of(text(fed))
    sizes = {
        name: [len(ask(fed, f"/live/test/{name}/{number}.m4s").body) for number in numbers]
        for name in ("240p", "audio")
    }
    lengths = [Fraction(one) for one in re.findall(r"#EXTINF:([0-9.]+)", text(fed, AUDIO))]
    peak = 8 * max(sizes["240p"]) + max(
        8 * size / length for size, length in zip(sizes["audio"], lengths, strict=True)
    )
    mean = 8 * sum(sizes["240p"]) / len(numbers) + 8 * sum(sizes["audio"]) / float(sum(lengths))
    (told,) = re.findall(r"#EXT-X-STREAM-INF:BANDWIDTH=(\d+),AVERAGE-BANDWIDTH=(\d+)", playlist)
    assert float(told[0]) == pytest.approx(float(peak), abs=4)
    assert float(told[1]) == pytest.approx(float(mean), abs=4)
    (media,) = re.findall(r"#EXT-X-MEDIA:(.*)", playlist)
    assert 'TYPE=AUDIO,GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES' in media
    assert 'CHANNELS="' in media


def test_line_26_playlists_and_errors_keep_by_appendix_b(fed: HandFed) -> None:
    # TD is 1: half of it is rounded up, since no second is shorter than one.
    kept = {
        "/live/test/master.m3u8": 1,
        PATH: 1,
        f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0": 6,
        f"{PATH}?_HLS_msn={NUMBER + 99}": 4,
        f"{PATH}?_HLS_part=0": 1,
        "/live/test/240p/1.m4s": 1,
    }
    for path, seconds in kept.items():
        answer = ask(fed, path)
        assert answer["cache-control"] == f"public, max-age={seconds}", path
        assert "age" not in answer
    media = ask(fed, f"/live/test/240p/{NUMBER + 7}.m4s")["cache-control"]
    found = re.fullmatch(r"public, max-age=(\d+), immutable", media)
    assert found is not None
    assert int(found[1]) >= 10 * TARGET


def test_line_27_playlists_are_gzipped_on_request_and_media_never_is(fed: HandFed) -> None:
    for path in (PATH, AUDIO, "/live/test/master.m3u8"):
        plain, coded = ask(fed, path), ask(fed, path, "Accept-Encoding: gzip")
        assert coded["content-encoding"] == "gzip"
        assert gzip.decompress(coded.body) == plain.body
        assert plain["vary"] == coded["vary"] == "Accept-Encoding"
        assert plain["etag"] != coded["etag"]
        assert plain["content-type"] == "application/vnd.apple.mpegurl"
        head = ask(fed, path, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head["content-length"] == plain["content-length"]
        assert ask(fed, path, f"If-None-Match: {plain['etag']}").status == 304
    media = f"/live/test/240p/{NUMBER + 7}.m4s"
    whole = ask(fed, media, "Accept-Encoding: gzip")
    assert "content-encoding" not in whole


@pytest.mark.parametrize("name", [f"{NUMBER + 7}.m4s", f"{NUMBER + 8}.0.m4s", f"init-{NUMBER}.mp4"])
def test_line_27_segments_and_parts_support_ranges_as_files_do(fed: HandFed, name: str) -> None:
    path = f"/live/test/240p/{name}"
    whole = ask(fed, path)
    assert whole["accept-ranges"] == "bytes"
    some = ask(fed, path, "Range: bytes=-8")
    assert (some.status, some.body) == (206, whole.body[-8:])
    assert some["content-range"] == f"bytes {len(whole.body) - 8}-{len(whole.body) - 1}/{len(whole.body)}"
    beyond = ask(fed, path, f"Range: bytes={len(whole.body)}-")
    assert beyond.status == 416
    assert ask(fed, path, method="HEAD")["content-length"] == str(len(whole.body))
    assert ask(fed, path, f"If-None-Match: {whole['etag']}").status == 304


def test_a_playlist_changes_only_as_it_may(fed: HandFed) -> None:
    """§6.2.1: lines are appended; segments go in order, parts behind the edge; nothing else changes."""
    before = text(fed)
    for _ in range(8 * PARTS):
        fed.publish(1)
        after = text(fed)
        kept = [line for line in before.splitlines() if _lasting(line)]
        now = [line for line in after.splitlines() if _lasting(line)]
        # what was there and still is stands in the same order, and new lines only behind it
        start = next(index for index, line in enumerate(kept) if line == now[0])
        assert now[: len(kept) - start] == kept[start:]
        before = after


def _lasting(line: str) -> bool:
    """Tell whether a line is a segment's for as long as the segment is listed."""
    return (
        line.startswith(("#EXTINF", "#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-DISCONTINUITY\n")) or line[:1] != "#"
    )


def test_everything_that_a_playlist_lists_is_there(fed: HandFed) -> None:
    """§6.2.1: a segment and a part are available when they are listed, and their URIs come in order."""
    playlist = text(fed)
    uris = re.findall(r'#EXT-X-(?:MAP|PART):.*?URI="([^"]+)"', playlist)
    uris += re.findall(r"^[^#].*$", playlist, re.MULTILINE)
    with Client(fed.address) as client:
        for uri in uris:
            answer = client.ask(f"/live/test/240p/{uri}")
            assert answer.status == 200
            assert int(answer["content-length"]) == len(answer.body)
    for listed in (segments_of(playlist), parts_of(playlist)):
        assert listed == sorted(listed)
    assert all(a < b for a, b in itertools.pairwise(dates(playlist)))


def test_names_of_channels_that_are_not_there_leave_nothing_behind(fed: HandFed) -> None:
    """Row D10: a constant answer for any number of names, and no state for any of them."""
    with Client(fed.address) as client:
        answers = {
            (answer.status, answer.body, answer["cache-control"])
            for answer in (client.ask(f"/live/{name}/master.m3u8") for name in range(200))
        }
    assert answers == {(404, b"Not Found\n", "public, max-age=2")}
    assert fed.channel.viewers <= 1
