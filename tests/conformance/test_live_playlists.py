"""Playlists of a live channel on the wire (RFC 8216bis §6.2): what players are owed."""

from __future__ import annotations

import itertools
import re
from datetime import datetime
from fractions import Fraction

import pytest

from tests.conformance.handfed import AUDIO, NUMBER, PARTS, PATH, TARGET, HandFed, parts_of, segments_of
from tests.conformance.raw import Client


def dates(playlist: str) -> list[float]:
    found = re.findall(r"PROGRAM-DATE-TIME:(\S+)Z", playlist)
    return [datetime.fromisoformat(date + "+00:00").timestamp() for date in found]


@pytest.mark.clause("RFC 8216bis §6.2.5")
def test_tokens_are_on_every_uri_and_directives_on_none(fed: HandFed) -> None:
    hostile = "token=a%22%0d%0a%3Cb%3E%E2%82%AC&x=1"
    for path in (PATH, "/live/test/master.m3u8"):
        playlist = fed.text(f"{path}?{hostile}&_HLS_msn={NUMBER + 8}&_HLS_part=0&_HLS_skip=YES")
        uris = re.findall(r'URI="([^"]*)"', playlist) + re.findall(r"^[^#\n].*$", playlist, re.MULTILINE)
        assert len(uris) >= 2
        # RFC 3986 §2.1, upper case by §6.2.2.1
        assert {uri.partition("?")[2] for uri in uris} == {"token=a%22%0D%0A%3Cb%3E%E2%82%AC"}
        assert "_HLS_" not in playlist
        for line in playlist.splitlines():
            assert line.startswith("#EXT") or line.partition("?")[0].endswith((".m4s", ".m3u8")), line


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 13", "RFC 8216bis §6.2.4 MUST 2d", "RFC 8216bis §4.4.3.7")
def test_targets_are_constant_and_parts_fill_them(fed: HandFed) -> None:
    targets = set()
    for name, sound in ((PATH, False), (AUDIO, True)):
        for _ in range(3):
            fed.publish(3)
            playlist = fed.text(name)
            targets.add(tuple(re.findall(r"(?:PART-TARGET=|TARGETDURATION:)([0-9.]+)", playlist)))
            parts = [Fraction(one) for one in re.findall(r"EXT-X-PART:DURATION=([0-9.]+)", playlist)]
            names = parts_of(playlist)
            assert max(parts) <= Fraction("0.256")
            # §4.4.3.7: unless it is its segment's last, or the next one begins with a key frame
            inner = [
                part
                for (one, _), (other, _), part in zip(names, names[1:], parts, strict=False)
                if one == other
            ]
            assert inner
            assert min(inner) >= Fraction("0.85") * Fraction("0.256"), sound
    assert targets == {("1", "0.25600")}


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 1", "RFC 8216bis §4.4.3.1")
def test_durations_round_to_the_target_and_parts_make_up_their_segment(fed: HandFed) -> None:
    for name in (PATH, AUDIO):
        playlist = fed.text(name)
        for duration in re.findall(r"#EXTINF:([0-9.]+),", playlist):
            assert int(Fraction(duration) + Fraction(1, 2)) <= TARGET
        body = playlist[playlist.index(f"\n{NUMBER + 6}.m4s") :]
        parts, segment = body.split(f"\n{NUMBER + 7}.m4s")[0].split("#EXTINF:")
        total = sum(Fraction(one) for one in re.findall(r"PART:DURATION=([0-9.]+)", parts))
        # Each is rounded to 10 µs.
        assert abs(total - Fraction(segment.rstrip(","))) <= Fraction(PARTS, 10**5)


@pytest.mark.clause(
    "RFC 8216bis §6.2.1 SHOULD 2",
    "RFC 8216bis §6.2.1 MUST 3",
    "RFC 8216bis §6.2.4 MUST 2c",
    "RFC 8216bis §6.2.4 MUST 2e",
    "RFC 8216bis §4.4.4.7",
    "RFC 8216bis §4.4.4.3",
)
def test_what_one_rendition_lacks_is_a_gap_at_the_same_place(fed: HandFed) -> None:
    fed.publish(PARTS, "audio")
    fed.restart(3)
    fed.publish(PARTS)
    picture, sound = fed.text(), fed.text(AUDIO)
    assert segments_of(picture)[-1] == segments_of(sound)[-1]
    # The picture has two parts of segment 8, the sound had gone on into segment 9.
    assert re.search(rf"#EXT-X-GAP\n#EXTINF:[0-9.]+,\n{NUMBER + 9}\.m4s", picture)
    assert "#EXT-X-GAP" not in sound
    # §4.4.4.7: what is there has no media; DASH's players can't see the gap.
    assert b"trun" not in fed.ask(f"/live/test/240p/{NUMBER + 9}.m4s").body
    assert fed.ask(f"/live/test/240p/{NUMBER + 9}.0.m4s").status == 404
    assert [one.split("#EXT-X-DISCONTINUITY\n")[1].count("#EXTINF") for one in (picture, sound)] == [1, 1]


@pytest.mark.clause("RFC 8216bis §6.2.4 MUST 2j", "RFC 8216bis §4.4.3.8")
def test_server_control_holds_back_as_much_as_the_draft_wants(fed: HandFed) -> None:
    controls = set()
    for path in (PATH, AUDIO):
        (line,) = re.findall(r"#EXT-X-SERVER-CONTROL:(.*)", fed.text(path))
        controls.add(line)
        told = dict(attribute.split("=") for attribute in line.split(","))
        assert told["CAN-BLOCK-RELOAD"] == "YES"
        assert Fraction(told["PART-HOLD-BACK"]) >= 3 * Fraction("0.256")
        assert Fraction(told["HOLD-BACK"]) >= 3 * TARGET
        assert Fraction(told["CAN-SKIP-UNTIL"]) >= 6 * TARGET
    # §6.2.4: the same in all playlists
    assert len(controls) == 1


@pytest.mark.clause("RFC 8216bis §6.2.5.1 MUST 1", "RFC 8216bis §6.2.5.1 MUST 4", "RFC 8216bis §4.4.5.2")
@pytest.mark.parametrize("value", ["YES", "v2"])
def test_what_is_skipped_and_the_rest_make_the_full_playlist(fed: HandFed, value: str) -> None:
    fed.publish(6 * PARTS)
    full, delta = fed.text(), fed.text(f"{PATH}?_HLS_skip={value}")
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


@pytest.mark.clause("RFC 8216bis §4.4.5.4")
def test_rendition_reports_are_true_at_the_time_of_answering(fed: HandFed) -> None:
    for parts in (0, 1, 2):
        fed.publish(parts, "audio")
        last = parts_of(fed.text(AUDIO))[-1]
        (report,) = re.findall(r"#EXT-X-RENDITION-REPORT:(.*)", fed.text())
        assert report == f'URI="../audio/media.m3u8",LAST-MSN={last[0]},LAST-PART={last[1]}'
    (report,) = re.findall(r"#EXT-X-RENDITION-REPORT:(.*)", fed.text(AUDIO))
    assert report == f'URI="../240p/media.m3u8",LAST-MSN={NUMBER + 8},LAST-PART=1'


@pytest.mark.clause("RFC 8216bis §6.2.2 SHOULD 1", "RFC 8216bis §6.2.2 MUST 4")
def test_part_tags_go_three_targets_behind_the_end_and_stay_fetchable_as_long_again(
    fed: HandFed,
) -> None:
    seen: dict[tuple[int, int], int] = {}
    for step in range(12):
        listed = parts_of(fed.text())
        assert listed[0][0] >= NUMBER + 8 + step - 4
        for part in listed:
            seen[part] = step
        for (number, index), last in seen.items():
            if step - last <= 3:
                assert fed.ask(f"/live/test/240p/{number}.{index}.m4s").status == 200
        fed.publish(PARTS)


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 2", "RFC 8216bis §6.2.2 MUST 5", "RFC 8216bis §6.2.2 MUST 8")
def test_segments_stay_listed_and_then_fetchable_as_long_as_they_must(fed: HandFed) -> None:
    first, longest = 0, 0
    for step in range(26):
        listed = segments_of(fed.text())
        assert len(listed) >= 7
        # §6.2.2: one by one, in order
        assert listed == list(range(listed[0], listed[-1] + 1))
        longest = max(longest, len(listed))
        first = listed[0]
        if step % 5 == 0:
            # Fetchable until its first appearance plus its own duration and the longest playlist's.
            for age in (0, longest // 2, longest):
                number = max(listed[-1] - age, NUMBER)
                assert fed.ask(f"/live/test/240p/{number}.m4s", method="HEAD").status == 200
        fed.publish(PARTS)
    assert first > NUMBER
    assert fed.ask(f"/live/test/240p/{NUMBER}.m4s").status == 404


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 14", "RFC 8216bis §6.2.4 MUST 2h", "RFC 8216bis §4.4.4.6")
def test_dates_are_on_every_segment_and_agree_to_a_frame(fed: HandFed) -> None:
    picture, sound = dates(fed.text()), dates(fed.text(AUDIO))
    # The eight segments and the open one; segment NUMBER + k begins at that second of the epoch.
    assert picture == [NUMBER + k for k in range(9)]
    assert all(0 <= b - a < 1024 / 48000 + 0.001 for a, b in zip(picture, sound, strict=True))


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 3")
def test_numbers_never_go_back_and_a_number_always_means_the_same_bytes(fed: HandFed) -> None:
    before = {number: fed.ask(f"/live/test/240p/{number}.m4s").body for number in segments_of(fed.text())}
    sequences = []
    for _ in range(3):
        fed.restart(1)
        fed.publish(PARTS)
        sequences.append(int(re.findall(r"MEDIA-SEQUENCE:(\d+)", fed.text())[0]))
    assert sequences == sorted(sequences)
    numbers = segments_of(fed.text())
    assert len(set(numbers)) == len(numbers)
    assert {number: fed.ask(f"/live/test/240p/{number}.m4s").body for number in before} == before


@pytest.mark.clause(
    "RFC 8216bis §6.2.1 MUST 5",
    "RFC 8216bis §6.2.1 SHOULD 6",
    "RFC 8216bis §6.2.2 MUST 9",
    "RFC 8216bis §6.2.2 MUST 10",
    "RFC 8216bis §6.2.2 MUST 11",
    "RFC 8216bis §4.4.4.3",
)
def test_a_source_that_comes_back_begins_behind_a_discontinuity_and_is_counted(
    fed: HandFed,
) -> None:
    fed.restart(30)
    fed.publish(2)
    for path in (PATH, AUDIO):
        lines = fed.text(path).splitlines()
        at = lines.index("#EXT-X-DISCONTINUITY")
        assert lines[at + 1] == f'#EXT-X-MAP:URI="init-{NUMBER + 9}.mp4"'
        assert lines[at + 2].startswith("#EXT-X-PROGRAM-DATE-TIME:")
        assert lines[at + 3].startswith("#EXT-X-PART:")
    first, *_, last = dates(fed.text())
    assert last - first == 9 + 30
    assert fed.ask(f"/live/test/240p/init-{NUMBER + 9}.mp4").body[4:8] == b"ftyp"
    history = []
    for _ in range(20):
        fed.publish(PARTS)
        playlist = fed.text()
        sequence = int(re.findall(r"DISCONTINUITY-SEQUENCE:(\d+)", playlist)[0])
        history.append((segments_of(playlist)[0], sequence, playlist.count("#EXT-X-DISCONTINUITY\n")))
    # §6.2.2: the sum never changes, so that each segment keeps its number
    assert {sequence + tags for _, sequence, tags in history} == {1}
    assert {sequence for number, sequence, _ in history if number <= NUMBER + 9} == {0}
    assert history[-1][1] == 1


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 12", "RFC 8216bis §4.4.3.5")
def test_a_sliding_window_has_no_playlist_type(fed: HandFed) -> None:
    assert "PLAYLIST-TYPE" not in fed.text()
    assert "ENDLIST" not in fed.text()


@pytest.mark.clause("RFC 8216bis §6.2.4 MUST 1", "RFC 8216bis §6.2.4 SHOULD 2", "RFC 8216bis §4.4.6.2")
def test_the_multivariant_playlist_tells_what_the_bitstream_says(fed: HandFed) -> None:
    playlist = fed.text("/live/test/master.m3u8")
    assert "\n#EXT-X-INDEPENDENT-SEGMENTS\n" in playlist
    # x264 ultrafast of 128x72 at 30 frames a second: constrained baseline, level 1.1 (ISO/IEC 14496-10 A.3.1)
    assert re.search(r'CODECS="avc1\.42c0[0-9a-f]{2},mp4a\.40\.2"', playlist)
    assert "RESOLUTION=128x72" in playlist
    assert "FRAME-RATE=30.000" in playlist
    numbers = segments_of(fed.text())
    sizes = {
        name: [len(fed.ask(f"/live/test/{name}/{number}.m4s").body) for number in numbers]
        for name in ("240p", "audio")
    }
    lengths = [Fraction(one) for one in re.findall(r"#EXTINF:([0-9.]+)", fed.text(AUDIO))]
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


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 10", "RFC 8216bis §6.2.2 MUST 5")
def test_a_playlist_changes_only_as_it_may(fed: HandFed) -> None:
    """Lines are appended; segments go in order, parts behind the edge; nothing else changes."""
    before = fed.text()
    for _ in range(8 * PARTS):
        fed.publish(1)
        after = fed.text()
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


@pytest.mark.clause(
    "RFC 8216bis §6.2.1 MUST 2",
    "RFC 8216bis §6.2.1 MUST 6",
    "RFC 8216bis §6.2.1 SHOULD 3",
    "RFC 8216bis §6.2.1 MUST 7",
    "RFC 8216bis §6.2.1 MUST 8",
    "RFC 8216bis §6.2.1 MUST 14",
    "RFC 8216bis §6.2.1 MUST 15",
)
def test_everything_that_a_playlist_lists_is_there(fed: HandFed) -> None:
    """A segment and a part are available when they are listed, and their URIs come in order."""
    for restarted in (False, True):
        if restarted:
            fed.restart(1)
            fed.publish(2 * PARTS + 2)
        for path in (PATH, AUDIO):
            playlist = fed.text(path)
            uris = re.findall(r'#EXT-X-(?:MAP|PART):.*?URI="([^"]+)"', playlist)
            uris += re.findall(r"^[^#].*$", playlist, re.MULTILINE)
            with Client(fed.address) as client:
                for uri in uris:
                    answer = client.ask(f"{path.rpartition('/')[0]}/{uri}")
                    assert answer.status == 200
                    # All of it is sent: nothing waits for what is still being made.
                    assert int(answer["content-length"]) == len(answer.body)
            for listed in (segments_of(playlist), parts_of(playlist)):
                assert listed == sorted(listed)
            assert all(a < b for a, b in itertools.pairwise(dates(playlist)))
