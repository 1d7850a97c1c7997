"""Captions (RFC 8216 §3.5, RFC 8216bis §4.4.6.1, §6.2.4): WebVTT in, a subtitle rendition out."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import (
    NUMBER,
    OPTIONS,
    PARTS,
    HandFed,
    Track,
    on_air,
    segments_of,
)
from tests.conformance.raw import Answer, Client
from tests.keys import BEARER_LINE
from tests.waiting import wait_for

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
EN = "/live/test/captions-en/"
FILE = "WEBVTT\n\n1\n00:00.000 --> 00:00.500\nnow\n\n2\n00:00.700 --> 00:03.200 align:start\nlong\nlines\n"


TYPED = "Content-Type: text/vtt"


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    """A channel with captions in two languages, two segments and two parts."""
    with captioned(material, tools, tmp_path, LiveLimits(caption_bytes=10_000)) as fed:
        yield fed


@contextlib.contextmanager
def captioned(
    material: dict[str, Track], tools: Tools, folder: Path, limits: LiveLimits
) -> Iterator[HandFed]:
    options = replace(OPTIONS, captions=("en", "pt-BR"), limits=limits)
    with on_air(material, tools, folder, options) as fed:
        fed.publish(2 * PARTS + 2)
        yield fed


def post(
    fed: HandFed,
    body: str | bytes,
    query: str = "",
    language: str = "en",
    *fields: str,
) -> Answer:
    data = body.encode() if isinstance(body, str) else body
    head = [f"POST /live/test/captions/{language}{query} HTTP/1.1", "Host: x"]
    head += [f"Content-Length: {len(data)}", *(fields or (TYPED, BEARER_LINE)), "", ""]
    with Client(fed.address) as client:
        client.send("\r\n".join(head).encode() + data)
        return client.answer()


class Read:
    """A segment, taken apart by RFC 8216 §3.5: where media time the cues are, and what they say."""

    def __init__(self, data: str) -> None:
        header, *blocks = data.rstrip("\n").split("\n\n")
        found = re.fullmatch(r"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00\.000,MPEGTS:(\d+)", header)
        assert found is not None, header
        self.ticks = int(found[1])
        self.cues = []
        for block in blocks:
            timing, _, said = block.partition("\n")
            start, end = re.findall(r"(\d{2,}):(\d\d):(\d\d)\.(\d{3})", timing)
            self.cues.append((self._ticks(start), self._ticks(end), said))

    def _ticks(self, time: tuple[str, ...]) -> int:
        hours, minutes, seconds, milliseconds = map(int, time)
        local = ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds
        return (self.ticks + 90 * local) % (1 << 33)


def ticks(seconds: float) -> int:
    """The MPEG-2 timestamp of a media time."""
    return round(seconds * 90_000) % (1 << 33)


NOW = NUMBER + 2 + 14 / 30
"""What is on air: two segments of a second and two parts of seven frames."""


def near(found: list[tuple[int, int, str]]) -> list[tuple[float, float, str]]:
    """Cues with their times in seconds behind NOW, to the millisecond."""

    def seconds(value: int) -> float:
        return round(((value - ticks(NOW) + (1 << 32)) % (1 << 33) - (1 << 32)) / 90_000, 2)

    return [(seconds(start), seconds(end), said) for start, end, said in found]


FIRST = (0.0, 0.5, "now")
LONG = (0.7, 3.2, "long\nlines")


def test_cues_are_in_each_segment_and_part_of_their_time_with_the_same_times(fed: HandFed) -> None:
    answer = post(fed, FILE)
    assert (answer.status, json.loads(answer.body)["cues"], json.loads(answer.body)["late"]) == (201, 2, 0)
    fed.publish(5 * PARTS)
    segments = {number: near(Read(fed.text(f"{EN}{NUMBER + number}.vtt")).cues) for number in range(7)}
    # now: 2.467 to 2.967; long: 3.167 to 5.667
    assert segments == {0: [], 1: [], 2: [FIRST], 3: [LONG], 4: [LONG], 5: [LONG], 6: []}
    parts = {name: near(Read(fed.text(f"{EN}{NUMBER + 3}.{name}.vtt")).cues) for name in range(PARTS)}
    assert parts == {0: [LONG], 1: [LONG], 2: [LONG], 3: [LONG], 4: [LONG]}
    assert near(Read(fed.text(f"{EN}{NUMBER + 2}.3.vtt")).cues) == [FIRST]
    assert "align:start" in fed.text(f"{EN}{NUMBER + 3}.vtt")
    # The same times to the letter, or players would show a cue twice.
    assert len({fed.text(f"{EN}{NUMBER + number}.vtt").partition("\n\n")[2] for number in (3, 4, 5)}) == 1


def test_a_late_cue_is_in_the_next_part_and_in_the_open_segment(fed: HandFed) -> None:
    assert json.loads(post(fed, FILE, "?offset=-1").body)["late"] == 0
    fed.publish(PARTS)
    late, on = (-1.0, -0.5, "now"), (-0.3, 2.2, "long\nlines")
    assert near(Read(fed.text(f"{EN}{NUMBER + 2}.2.vtt")).cues) == [late, on]
    assert near(Read(fed.text(f"{EN}{NUMBER + 2}.3.vtt")).cues) == [on]
    assert near(Read(fed.text(f"{EN}{NUMBER + 2}.vtt")).cues) == [late, on]
    # Three target durations, of a second each, ago: no player is there.
    assert json.loads(post(fed, FILE, "?offset=-6.5").body)["late"] == 2


@pytest.mark.clause("RFC 8216bis §6.2.4 MUST 2j")
def test_the_rendition_promises_what_the_picture_promises(fed: HandFed) -> None:
    fed.publish(10 * PARTS)
    picture, words = (fed.text(f"/live/test/{name}/media.m3u8") for name in ("240p", "captions-en"))

    def common(playlist: str) -> list[str]:
        lines = re.sub(r"(\d)\.(?:m4s|vtt)", r"\1", playlist).splitlines()
        return [line for line in lines if not re.match("#EXT-X-(MAP|RENDITION-REPORT)", line)]

    # §6.2.4: the same EXT-X-SERVER-CONTROL, target duration, numbers, dates and discontinuities
    assert common(words) == [
        line.replace(",INDEPENDENT=YES", "") + (",INDEPENDENT=YES" if "X-PART:" in line else "")
        for line in common(picture)
    ]
    assert "EXT-X-MAP" not in words
    assert set(re.findall(r'REPORT:URI="\.\./([^/]+)/', words)) == {"240p", "audio", "captions-pt-BR"}
    assert m3u8.loads(words).segments[0].uri == f"{segments_of(picture)[0]}.vtt"


def test_a_reload_blocks_until_the_part_is_there_and_a_hint_is_answered_with_it(fed: HandFed) -> None:
    with Client(fed.address) as client, Client(fed.address) as hinted:
        client.send(f"GET {EN}media.m3u8?_HLS_msn={NUMBER + 2}&_HLS_part=2 HTTP/1.1\r\nHost: a\r\n\r\n")
        hinted.send(f"GET {EN}{NUMBER + 2}.2.vtt HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: fed.channel.renditions["captions-en"].window.waiters.count == 2, "both to wait")
        fed.publish(1)
        assert f"{NUMBER + 2}.2.vtt" in client.answer().body.decode()
        assert hinted.answer().body.startswith(b"WEBVTT\n")
    for name in (f"{NUMBER + 2}.vtt", f"{NUMBER + 2}.3.m4s", f"init-{NUMBER}.mp4"):
        assert fed.ask(EN + name).status == 404, name
    assert fed.ask(f"/live/test/240p/{NUMBER + 1}.vtt").status == 404


def test_the_multivariant_playlist_offers_the_languages(fed: HandFed) -> None:
    playlist = m3u8.loads(fed.ask("/live/test/master.m3u8").body.decode())
    offered = [media for media in playlist.media if media.type == "SUBTITLES"]
    assert [(one.group_id, one.language, one.name, one.uri) for one in offered] == [
        ("captions", "en", "English", "captions-en/media.m3u8"),
        ("captions", "pt-BR", "Português (Brasil)", "captions-pt-BR/media.m3u8"),
    ]
    assert {(one.default, one.autoselect) for one in offered} == {("NO", "YES")}
    assert [variant.stream_info.subtitles for variant in playlist.playlists] == ["captions"]
    manifest = ElementTree.fromstring(fed.ask("/live/test/manifest.mpd").body)
    texts = [one for one in manifest.iter(f"{MPD}AdaptationSet") if one.get("contentType") == "text"]
    assert [one.get("lang") for one in texts] == ["en", "pt-BR"]
    assert {one.get("mimeType") for one in texts} == {"application/mp4"}
    assert {one.get("codecs") for text in texts for one in text.iter(f"{MPD}Representation")} == {"wvtt"}


@pytest.mark.parametrize("ahead", [0, 3])
def test_dash_has_a_segment_of_captions_once_it_is_complete(fed: HandFed, ahead: int) -> None:
    """Players ask when the picture is due; an encoder that is late must not make it unknown to them."""
    assert fed.ask(f"{EN}init-0.mp4")["content-type"] == "application/mp4"
    whole = fed.ask(f"{EN}{NUMBER}.m4s")
    assert (whole.status, whole["content-type"]) == (200, "application/mp4")
    assert whole["cache-control"].endswith(", immutable")
    assert fed.ask(f"{EN}{NUMBER}.m4s", "Range: bytes=4-7").body == b"moof"
    window = fed.channel.renditions["captions-en"].window
    with Client(fed.address) as client:
        number = window.next_number + ahead
        client.send(f"GET {EN}{number}.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: window.waiters.count == 1, "it to wait")
        while window.next_number <= number:
            fed.publish(1)
        assert client.answer().status == 200
    assert fed.ask(f"{EN}{2 * NUMBER}.m4s").status == 404


def test_dash_has_no_words_in_a_segment_that_never_came(fed: HandFed) -> None:
    assert post(fed, "WEBVTT\n\n00:00.000 --> 10:00.000\nalways\n").status < 300
    fed.publish(2 * PARTS, "audio")
    fed.restart()
    number = fed.channel.renditions["captions-en"].window.next_number - 1
    lost = fed.ask(f"{EN}{number}.m4s")
    assert (lost.status, lost["content-type"]) == (200, "application/mp4")
    # ISO/IEC 14496-30 §7.5: a sample without cues is an empty one.
    assert lost.body.endswith(b"\0\0\0\x08vtte")


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 4")
def test_texts_are_cached_compressed_and_served_in_ranges(fed: HandFed) -> None:
    target = f"{EN}{NUMBER}.vtt"
    plain, packed = fed.ask(target), fed.ask(target, "Accept-Encoding: gzip")
    assert plain["content-type"] == packed["content-type"] == "text/vtt"
    assert plain["cache-control"].endswith(", immutable")
    assert packed["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert packed["etag"] != plain["etag"]
    ranged = fed.ask(target, "Range: bytes=0-5", "Accept-Encoding: gzip")
    assert (ranged.status, ranged.body) == (206, b"WEBVTT")


@pytest.mark.clause("RFC 8216bis §6.2.4 MUST 2c")
def test_captions_go_on_at_the_right_time_behind_a_discontinuity(fed: HandFed) -> None:
    assert post(fed, "WEBVTT\n\n00:00.000 --> 00:06.000\nacross\n").status == 201
    fed.publish(1)
    fed.restart(seconds=2)
    fed.publish(2 * PARTS)
    playlist = fed.text(EN + "media.m3u8")
    picture = fed.text()
    assert playlist.count("#EXT-X-DISCONTINUITY\n") == picture.count("#EXT-X-DISCONTINUITY\n") == 1
    before, behind = (Read(fed.text(f"{EN}{NUMBER + number}.vtt")) for number in (2, 3))
    assert near(before.cues) == [(0.0, 6.0, "across")]
    # The media goes on without a gap, but two seconds later: what was to come is two seconds nearer.
    assert near(behind.cues) == [(-2.0, 4.0, "across")]


def test_ffmpeg_reads_the_rendition_to_its_end(fed: HandFed, tools: Tools) -> None:
    assert post(fed, FILE).status == 201
    fed.publish(5 * PARTS)
    fed.end()
    url = f"http://{fed.address[0]}:{fed.address[1]}{EN}media.m3u8"
    options = f"-nostdin -v error -live_start_index 0 -i {url} -f srt -"
    command = [str(tools.ffmpeg), *options.split()]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout
    # A cue that is in three segments with the same times is one to it.
    assert re.findall("now|long", answer) == ["now", "long"]


def test_a_body_without_end_is_taken_cue_by_cue(fed: HandFed) -> None:
    head = f"POST /live/test/captions/en HTTP/1.1\r\nHost: x\r\n{TYPED}\r\n{BEARER_LINE}\r\n"
    kept = fed.channel.captions.tracks["en"]

    def chunk(data: str) -> str:
        return f"{len(data):x}\r\n{data}\r\n"

    with Client(fed.address) as client:
        client.send(
            f"{head}Transfer-Encoding: chunked\r\n\r\n" + chunk("WEBVTT\n\n00:00.000 --> 00:01.000\nfi")
        )
        client.send(chunk("rst\n"))
        client.send(chunk("\n00:00.500 --> 00:01.500\nsecond\n\n"))
        wait_for(lambda: len(kept._kept) == 2, "both cues")
        fed.publish(PARTS)
        assert [cue[2] for cue in Read(fed.text(f"{EN}{NUMBER + 2}.vtt")).cues] == ["first", "second"]
        # Times go on counting from the request's begin.
        client.send(chunk("00:01.000 --> 00:02.000\nthird\n\n00:02.000 --> 00:01.000\nwrong\n\n"))
        answer = client.answer()
    assert (answer.status, answer.body) == (422, b"line 12: a cue ends before it begins; 3 cues were taken\n")
    fed.publish(PARTS)
    assert "third" in fed.text(f"{EN}{NUMBER + 3}.vtt")


def test_of_a_file_with_a_wrong_line_nothing_is_taken(fed: HandFed) -> None:
    assert post(fed, FILE).status == 201
    answer = post(fed, "WEBVTT\n\n00:00.000 --> 00:00.500\nlost\n\n00:01 --> 00:02\nwrong\n")
    assert answer.status == 422
    assert answer.body.startswith(b"line 6: ")
    fed.publish(PARTS)
    assert [cue[2] for cue in Read(fed.text(f"{EN}{NUMBER + 2}.vtt")).cues] == ["now"]


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        ("", "", 422),
        ("1\n", "", 422),
        ("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n", "", 422),
        (FILE, "?offset=x", 400),
        (FILE, "?offset=nan", 400),
        (FILE, "?offset=1e9", 400),
        (FILE, "?start=yesterday", 400),
        (FILE, "?start=2026-11-20T00:00:00", 400),
        ("WEBVTT\n\n" + "00:00.000 --> 00:01.000\n" + "x\n" * 40, "", 422),
        ("WEBVTT\n\n" + "00:00.000 --> 00:01.000\n" + "x" * 5000, "", 422),
        ("WEBVTT\n\n" + "00:00.000 --> 00:01.000\nx\n\n" * 200, "", 409),
        ("WEBVTT\n\n" + "x" * (1 << 20), "", 413),
    ],
)
def test_what_can_not_be_shown_is_refused(fed: HandFed, body: str, query: str, status: int) -> None:
    answer = post(fed, body, query)
    assert answer.status == status
    assert answer.body.count(b"\n") == 1
    fed.publish(PARTS)
    assert Read(fed.text(f"{EN}{NUMBER + 2}.vtt")).cues == []


def test_cues_may_count_from_a_date(fed: HandFed) -> None:
    date = datetime.fromtimestamp(NUMBER + 4, UTC).isoformat().replace("+00:00", "Z")
    assert post(fed, FILE, f"?start={date}").status == 201
    fed.publish(5 * PARTS)
    assert near(Read(fed.text(f"{EN}{NUMBER + 4}.vtt")).cues) == [
        (1.53, 2.03, "now"),
        (2.23, 4.73, "long\nlines"),
    ]


def test_only_the_channels_languages_and_who_may_publish_are_let_in(fed: HandFed) -> None:
    assert post(fed, FILE, "", "de").status == 404
    assert post(fed, FILE, "", "pt-BR").status == 201
    assert post(fed, FILE, "", "en", "Content-Type: text/plain", BEARER_LINE).status == 415
    assert post(fed, FILE, "", "en", TYPED).status == 401
    assert post(fed, FILE, "?key=wrong", "en", TYPED).status == 401
    assert post(fed, FILE, "", "en", TYPED, BEARER_LINE, "Origin: https://evil.example").status == 403


def test_nothing_is_taken_of_what_comes_when_all_is_over(fed: HandFed) -> None:
    fed.end()
    answer = post(fed, FILE)
    assert (answer.status, answer.body) == (503, b"nothing is on air\n")
    assert answer["retry-after"] == "2"


def test_feeds_are_bounded(material: dict[str, Track], tools: Tools, tmp_path: Path) -> None:
    head = f"POST /live/test/captions/en HTTP/1.1\r\nHost: x\r\n{TYPED}\r\n{BEARER_LINE}\r\n"
    with captioned(material, tools, tmp_path, LiveLimits(caption_feeds=1)) as fed:
        with Client(fed.address) as client:
            client.send(
                f"{head}Transfer-Encoding: chunked\r\n\r\n20\r\nWEBVTT\n\n00:00.000 --> 00:01.000\n\r\n"
            )
            wait_for(lambda: post(fed, FILE).status == 503, "the other feed to count")
        wait_for(lambda: post(fed, FILE).status == 201, "it to be gone")


def test_a_feed_is_let_go_when_the_channel_ends(fed: HandFed) -> None:
    head = f"POST /live/test/captions/en HTTP/1.1\r\nHost: x\r\n{TYPED}\r\n{BEARER_LINE}\r\n"
    body = "WEBVTT\n\n00:00.000 --> 00:01.000\nheard\n\n"
    with Client(fed.address) as client:
        client.send(f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n")
        wait_for(lambda: len(fed.channel.captions.tracks["en"]._kept) == 1, "the cue")
        fed.in_loop(fed.channel.close)
        answer = client.answer()
    assert (answer.status, answer.body) == (503, b"the channel ends; 1 cues were taken\n")


@pytest.mark.parametrize(
    ("query", "cue"),
    [
        ("?start=9999-12-31T23:59:59-12:00", "00:00.000 --> 00:01.000"),
        ("?start=0001-01-01T00:00:00%2B12:00", "00:00.000 --> 00:01.000"),
        ("?start=1969-12-31T23:59:59Z", "00:00.000 --> 00:01.000"),
        ("?start=2026-11-20T00:00:00", "00:00.000 --> 00:01.000"),
        ("?offset=nan", "00:00.000 --> 00:01.000"),
        ("?offset=-inf", "00:00.000 --> 00:01.000"),
        ("?offset=1e300", "00:00.000 --> 00:01.000"),
        ("", "25:00:00.000 --> 25:00:01.000"),
        ("", "999999:00:00.000 --> 999999:00:01.000"),
        ("", "00:00.000 --> 25:00:00.000"),
        ("", "00:00.000 --> 999999:59:59.999"),
    ],
)
def test_cues_that_would_never_be_over_are_refused_and_the_others_go_on(
    fed: HandFed, query: str, cue: str
) -> None:
    """They would fill what a channel's captions may take, or be in each of its segments for years."""
    answer = post(fed, f"WEBVTT\n\n00:00.000 --> 00:01.000\nfine\n\n{cue}\nnot meant\n", query)
    assert answer.status == 400
    assert answer.body.count(b"\n") == 1
    assert post(fed, FILE).status == 201
    fed.publish(PARTS)
    playlist = fed.text(f"{EN}media.m3u8")
    told = fed.text(f"{EN}{segments_of(playlist.replace('.vtt', '.m4s'))[-1]}.vtt")
    assert "now" in told
    assert "fine" not in told
    assert "not meant" not in told
