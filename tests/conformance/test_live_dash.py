"""DASH of a live channel on the wire: the manifest by ISO/IEC 23009-1, segments that come part by part."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest

from packager.tools import Tools
from tests.conformance.handfed import NUMBER, PARTS, SOUND_PARTS, HandFed, Track, make_material, on_air
from tests.conformance.raw import Answer, Client, wait_for

NAMES = {"": "urn:mpeg:dash:schema:mpd:2011"}
PATH = "/live/test/manifest.mpd"
PART_TARGET = Fraction("0.256")


@pytest.fixture(scope="module")
def material(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Track]:
    return make_material(tools, tmp_path_factory.mktemp("material"))


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    """A channel with eight segments and two parts."""
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS + 2)
        yield fed


def ask(fed: HandFed, target: str, method: str = "GET") -> Answer:
    with Client(fed.address) as client:
        return client.ask(target, method=method)


def manifest(fed: HandFed, query: str = "") -> ElementTree.Element:
    answer = ask(fed, PATH + query)
    assert answer.status == 200, answer.body
    assert answer["content-type"] == "application/dash+xml"
    return ElementTree.fromstring(answer.body)


def seconds(text: str | None) -> Fraction:
    found = re.fullmatch(r"PT([0-9.]+)S", text or "")
    assert found is not None, text
    return Fraction(found[1])


def templates(period: ElementTree.Element) -> dict[str, dict[str, str]]:
    return {
        representation.attrib["id"]: dict(template.attrib)
        for representation in period.findall("AdaptationSet/Representation", NAMES)
        for template in representation.findall("SegmentTemplate", NAMES)
    }


def test_line_25_the_manifest_is_dynamic_and_says_how_near_to_now_a_player_may_be(fed: HandFed) -> None:
    root = manifest(fed)
    assert root.get("type") == "dynamic"
    assert root.get("availabilityStartTime") == "1970-01-01T00:00:00Z"
    assert seconds(root.get("minimumUpdatePeriod")) == 1
    latency = root.find("ServiceDescription/Latency", NAMES)
    assert latency is not None
    low, target, high = (int(latency.attrib[name]) for name in ("min", "target", "max"))
    # Three parts in the buffer, one being made, one on its way; browsers don't do less than 1.5 s.
    assert low < target == 1500 < high
    timing = root.find("UTCTiming", NAMES)
    assert timing is not None
    assert timing.get("schemeIdUri") == "urn:mpeg:dash:utc:http-iso:2014"
    (period,) = root.findall("Period", NAMES)
    for template in templates(period).values():
        assert template["availabilityTimeComplete"] == "false"
        # A segment can be had when its first part is there: a part after its beginning.
        assert Fraction(template["availabilityTimeOffset"]) == 1 - PART_TARGET


def test_line_25_a_segments_number_and_time_are_those_of_hls(fed: HandFed) -> None:
    (period,) = manifest(fed).findall("Period", NAMES)
    # Segments are a second long, and segment n begins at second n of the epoch.
    assert seconds(period.get("start")) == NUMBER
    assert period.get("duration") is None
    found = templates(period)
    assert set(found) == {"240p", "audio"}
    for template in found.values():
        timescale = int(template["timescale"])
        assert int(template["duration"]) == timescale
        assert int(template["startNumber"]) == NUMBER
        assert int(template["presentationTimeOffset"]) == NUMBER * timescale
        assert template["initialization"] == f"init-{NUMBER}.mp4"
        assert template["media"] == "$Number$.m4s"


def test_line_25_a_manifest_tells_codecs_sizes_and_rates(fed: HandFed) -> None:
    picture, sound = manifest(fed).findall("Period/AdaptationSet", NAMES)
    (video,) = picture.findall("Representation", NAMES)
    (audio,) = sound.findall("Representation", NAMES)
    # ISO/IEC 14496-10 A.2.1.1: constrained baseline
    assert re.fullmatch(r"avc1\.42c0[0-9a-f]{2}", video.attrib["codecs"])
    assert (video.get("width"), video.get("height"), video.get("frameRate")) == ("128", "72", "30")
    assert (audio.get("codecs"), audio.get("audioSamplingRate")) == ("mp4a.40.2", "48000")
    numbers = range(NUMBER, NUMBER + 8)
    peak = max(8 * len(ask(fed, f"/live/test/240p/{number}.m4s").body) for number in numbers)
    assert int(video.attrib["bandwidth"]) == peak


def test_line_25_each_chunk_of_the_open_segment_is_one_part(fed: HandFed) -> None:
    with Client(fed.address) as client:
        client.send(f"GET /live/test/240p/{NUMBER + 8}.m4s HTTP/1.1\r\nHost: origin\r\n\r\n")
        head = _line(client)
        fields = []
        while line := _line(client):
            fields.append(line.lower())
        assert head == "HTTP/1.1 200 OK"
        assert "transfer-encoding: chunked" in fields
        assert "content-type: video/mp4" in fields
        parts = [_chunk(client), _chunk(client)]
        wait_for(lambda: fed.channel.blocked == 1, "the wait for the third part")
        for _ in range(PARTS - 2):
            fed.publish(1)
            parts.append(_chunk(client))
        assert _chunk(client) == b""
    for index, part in enumerate(parts):
        assert part == ask(fed, f"/live/test/240p/{NUMBER + 8}.{index}.m4s").body
    whole = ask(fed, f"/live/test/240p/{NUMBER + 8}.m4s")
    assert whole.body == b"".join(parts)
    assert int(whole["content-length"]) == len(whole.body)


def _line(client: Client) -> str:
    line = b""
    while not line.endswith(b"\r\n"):
        line += client.take(1)
    return line[:-2].decode("latin-1")


def _chunk(client: Client) -> bytes:
    data = client.take(int(_line(client), 16))
    assert client.take(2) == b"\r\n"
    return data


@pytest.mark.parametrize("ahead", [0, 1])
def test_line_25_a_segment_that_is_about_to_begin_is_waited_for(fed: HandFed, ahead: int) -> None:
    fed.publish(PARTS - 2)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, fed, f"/live/test/audio/{NUMBER + 9 + ahead}.m4s")
        wait_for(lambda: fed.channel.blocked == 1, "the request to wait")
        fed.publish((2 + ahead) * PARTS)
        assert answer.result().status == 200
    assert fed.channel.blocked == 0
    begin = time.monotonic()
    assert ask(fed, f"/live/test/audio/{NUMBER + 14 + ahead}.m4s").status == 404
    assert time.monotonic() - begin < 2


def test_a_head_of_the_open_segment_is_answered_at_once(fed: HandFed) -> None:
    assert ask(fed, f"/live/test/240p/{NUMBER + 8}.m4s", "HEAD").status == 200


def test_a_segment_whose_source_dies_ends_with_the_parts_that_came(fed: HandFed) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, fed, f"/live/test/240p/{NUMBER + 8}.m4s")
        wait_for(lambda: fed.channel.blocked == 1, "the wait for the third part")
        fed.restart()
        body = answer.result().body
    assert body == ask(fed, f"/live/test/240p/{NUMBER + 8}.m4s").body
    assert body == b"".join(ask(fed, f"/live/test/240p/{NUMBER + 8}.{index}.m4s").body for index in (0, 1))


def test_a_segment_that_never_ends_does_not_look_complete(fed: HandFed) -> None:
    with Client(fed.address) as client:
        client.send(f"GET /live/test/240p/{NUMBER + 8}.m4s HTTP/1.1\r\nHost: origin\r\n\r\n")
        wait_for(lambda: fed.channel.blocked == 1, "the wait for the third part")
        fed.in_loop(fed.channel.close)
        # RFC 9112 §8: a chunked body without its last chunk is incomplete.
        assert not client.rest().endswith(b"0\r\n\r\n")


def test_line_21_and_25_a_discontinuity_begins_a_period(fed: HandFed) -> None:
    fed.restart(30)
    fed.publish(PARTS + 1)
    first, second = manifest(fed).findall("Period", NAMES)
    assert seconds(first.get("start")) == NUMBER
    # Eight segments and two parts of seven frames; then thirty seconds without a source.
    assert seconds(first.get("duration")) == Fraction(round((8 + Fraction(14, 30)) * 1000), 1000)
    assert seconds(second.get("start")) == NUMBER + 9 + 30
    assert second.get("duration") is None
    for template in templates(second).values():
        assert int(template["startNumber"]) == NUMBER + 9
        assert int(template["presentationTimeOffset"]) == (NUMBER + 9) * int(template["timescale"])
        assert template["initialization"] == f"init-{NUMBER + 9}.mp4"
    ids = [period.get("id") for period in (first, second)]
    for _ in range(10):
        fed.publish(PARTS)
    (left,) = manifest(fed).findall("Period", NAMES)
    assert [left.get("id"), left.get("start")] == [ids[1], second.get("start")]


def test_a_gap_ends_a_period(fed: HandFed) -> None:
    fed.publish(2 * PARTS, "audio")
    fed.restart(1)
    fed.publish(PARTS)
    first, second = manifest(fed).findall("Period", NAMES)
    assert seconds(first.get("duration")) < 9
    # The sound went on into segment 10, which is a gap in the picture, as segment 9 is.
    assert {int(template["startNumber"]) for template in templates(second).values()} == {NUMBER + 11}


def test_an_ended_channel_has_an_end(fed: HandFed) -> None:
    fed.end()
    root = manifest(fed)
    assert root.get("minimumUpdatePeriod") is None
    (period,) = root.findall("Period", NAMES)
    assert seconds(period.get("duration")) == Fraction(round((8 + Fraction(14, 30)) * 1000), 1000)


def test_tokens_are_carried_onto_addresses(fed: HandFed) -> None:
    (period,) = manifest(fed, "?token=a%22%3C%24&_HLS_x=1").findall("Period", NAMES)
    # "$" would begin an identifier of the template (§5.3.9.4.4).
    for template in templates(period).values():
        assert template["media"] == "$Number$.m4s?token=a%22%3C%24"
        assert template["initialization"] == f"init-{NUMBER}.mp4?token=a%22%3C%24"


def test_the_clock_is_this_origins(fed: HandFed) -> None:
    before = datetime.now(UTC)
    answer = ask(fed, "/api/time")
    told = datetime.fromisoformat(answer.body.decode().removesuffix("Z") + "+00:00")
    # Its text has milliseconds.
    assert (before - told).total_seconds() < 0.001
    assert told <= datetime.now(UTC)
    assert answer["cache-control"] == "no-store"
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.body)


def test_the_sound_of_the_open_segment_comes_part_by_part_too(fed: HandFed) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, fed, f"/live/test/audio/{NUMBER + 8}.m4s")
        wait_for(lambda: fed.channel.blocked == 1, "the wait for a part")
        fed.publish(PARTS - 2)
        body = answer.result().body
    parts = [ask(fed, f"/live/test/audio/{NUMBER + 8}.{index}.m4s").body for index in range(SOUND_PARTS)]
    assert body == b"".join(parts)
