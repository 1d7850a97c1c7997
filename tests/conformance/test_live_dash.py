"""DASH of a live channel on the wire: the manifest by ISO/IEC 23009-1, segments that come part by part."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest

from origin.http.client_limits import ClientLimit
from packager.process.ffmpeg_discovery import Tools
from packager.window.limits import PublishLimits
from tests.conformance.handfed import (
    HELD_TARGET_DURATIONS,
    NUMBER,
    OPTIONS,
    PARTS,
    SOUND_PARTS,
    TARGET,
    HandFed,
    Track,
    on_air,
)
from tests.conformance.raw import Client
from tests.waiting import wait_for

NAMES = {"": "urn:mpeg:dash:schema:mpd:2011"}
PATH = "/live/test/manifest.mpd"
PART_TARGET = Fraction("0.256")


def manifest(fed: HandFed, query: str = "") -> ElementTree.Element:
    answer = fed.ask(PATH + query)
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


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.1", "ISO/IEC 23009-1 §5.8.5.7")
def test_the_manifest_is_dynamic_and_says_how_near_to_now_a_player_may_be(fed: HandFed) -> None:
    root = manifest(fed)
    assert root.get("type") == "dynamic"
    assert root.get("availabilityStartTime") == "1970-01-01T00:00:00Z"
    assert seconds(root.get("minimumUpdatePeriod")) == 1
    latency = root.find("ServiceDescription/Latency", NAMES)
    assert latency is not None
    low, target, high = (int(latency.attrib[name]) for name in ("min", "target", "max"))
    # Three parts in the buffer, one being made, one on its way; browsers don't do less than 1.5 s.
    assert low < target == 1500 < high
    # Annex K.3.2: the latency counts from a time that the adaptation sets tell.
    references = root.findall("Period/AdaptationSet/ProducerReferenceTime", NAMES)
    assert [one.get("id") for one in references] == [latency.get("referenceId")] * 2
    for one in references:
        assert datetime.fromisoformat(one.attrib["wallClockTime"]).timestamp() == NUMBER
    timing = root.find("UTCTiming", NAMES)
    assert timing is not None
    assert timing.get("schemeIdUri") == "urn:mpeg:dash:utc:http-iso:2014"
    (period,) = root.findall("Period", NAMES)
    for template in templates(period).values():
        assert template["availabilityTimeComplete"] == "false"
        # A segment can be had when its first part is there: a part after its beginning.
        assert Fraction(template["availabilityTimeOffset"]) == 1 - PART_TARGET


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.9.5")
def test_a_segments_number_and_time_are_those_of_hls(fed: HandFed) -> None:
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


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.7")
def test_a_manifest_tells_codecs_sizes_and_rates(fed: HandFed) -> None:
    picture, sound = manifest(fed).findall("Period/AdaptationSet", NAMES)
    (video,) = picture.findall("Representation", NAMES)
    (audio,) = sound.findall("Representation", NAMES)
    # ISO/IEC 14496-10 A.2.1.1: constrained baseline
    assert re.fullmatch(r"avc1\.42c0[0-9a-f]{2}", video.attrib["codecs"])
    assert (video.get("width"), video.get("height"), video.get("frameRate")) == ("128", "72", "30")
    assert (audio.get("codecs"), audio.get("audioSamplingRate")) == ("mp4a.40.2", "48000")
    numbers = range(NUMBER, NUMBER + 8)
    peak = max(8 * len(fed.ask(f"/live/test/240p/{number}.m4s").body) for number in numbers)
    assert int(video.attrib["bandwidth"]) == peak


@pytest.mark.clause("RFC 8216bis §6.2.6 MUST 3", "ISO/IEC 23009-1 §5.3.9.5")
def test_each_chunk_of_the_open_segment_is_one_part(fed: HandFed) -> None:
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
        wait_for(lambda: fed.channel.stream.blocked == 1, "the wait for the third part")
        for _ in range(PARTS - 2):
            fed.publish(1)
            parts.append(_chunk(client))
        assert _chunk(client) == b""
    for index, part in enumerate(parts):
        assert part == fed.ask(f"/live/test/240p/{NUMBER + 8}.{index}.m4s").body
    whole = fed.ask(f"/live/test/240p/{NUMBER + 8}.m4s")
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


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.9.5")
@pytest.mark.parametrize("ahead", [0, 3])
def test_a_segment_that_is_due_is_waited_for_however_late_the_encoder_is(fed: HandFed, ahead: int) -> None:
    fed.publish(PARTS - 2)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fed.ask, f"/live/test/audio/{NUMBER + 9 + ahead}.m4s")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the request to wait")
        fed.publish((2 + ahead) * PARTS)
        assert answer.result().status == 200
    assert fed.channel.stream.blocked == 0
    begin = time.monotonic()
    # By the clock it has begun long ago, and what is beyond that is unknown.
    assert fed.ask(f"/live/test/audio/{NUMBER + 100}.m4s").status == 503
    assert fed.ask(f"/live/test/audio/{2 * NUMBER}.m4s").status == 404
    # Nothing of it waits: who waits for nothing does so for much longer.
    assert time.monotonic() - begin < HELD_TARGET_DURATIONS * TARGET


def test_a_head_of_the_open_segment_is_answered_at_once(fed: HandFed) -> None:
    assert fed.ask(f"/live/test/240p/{NUMBER + 8}.m4s", method="HEAD").status == 200


def test_a_segment_whose_source_dies_ends_with_the_parts_that_came(fed: HandFed) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fed.ask, f"/live/test/240p/{NUMBER + 8}.m4s")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the wait for the third part")
        fed.restart()
        body = answer.result().body
    assert body == fed.ask(f"/live/test/240p/{NUMBER + 8}.m4s").body
    assert body == b"".join(fed.ask(f"/live/test/240p/{NUMBER + 8}.{index}.m4s").body for index in (0, 1))


def test_a_segment_that_never_ends_does_not_look_complete(fed: HandFed) -> None:
    with Client(fed.address) as client:
        client.send(f"GET /live/test/240p/{NUMBER + 8}.m4s HTTP/1.1\r\nHost: origin\r\n\r\n")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the wait for the third part")
        fed.in_loop(fed.channel.close)
        # RFC 9112 §8: a chunked body without its last chunk is incomplete.
        assert not client.rest().endswith(b"0\r\n\r\n")


@pytest.mark.clause("CWE-770")
def test_who_is_sent_an_open_segment_counts_among_those_who_wait(
    material: dict[str, Track], tools: Tools, tmp_path: Path
) -> None:
    target = f"/live/test/240p/{NUMBER + 8}.m4s"
    one = ClientLimit(1, lambda _: False)
    with on_air(material, tools, tmp_path, blocked=one) as fed, Client(fed.address) as client:
        fed.publish(8 * PARTS + 2)
        client.send(f"GET {target} HTTP/1.1\r\nHost: origin\r\n\r\n")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the wait for the third part")
        assert fed.ask(target).status == 429
        fed.publish(PARTS - 2)
        assert client.answer().status == 200
        assert fed.ask(f"/live/test/240p/{NUMBER + 8}.m4s").status == 200


def test_an_open_segment_for_which_nobody_more_may_wait_does_not_look_complete(
    material: dict[str, Track], tools: Tools, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish = PublishLimits().with_waiters(1)
    options = replace(OPTIONS, limits=replace(OPTIONS.limits, publish=publish))
    request = f"GET /live/test/240p/{NUMBER + 8}.m4s HTTP/1.1\r\nHost: origin\r\n\r\n"
    with (
        on_air(material, tools, tmp_path, options) as fed,
        Client(fed.address) as first,
        Client(fed.address) as second,
    ):
        fed.publish(8 * PARTS + 2)
        first.send(request)
        wait_for(lambda: fed.channel.stream.blocked == 1, "the wait for the third part")
        second.send(request)
        assert not second.rest().endswith(b"0\r\n\r\n")
        assert "Traceback" not in caplog.text


@pytest.mark.clause("RFC 8216bis §4.4.4.3", "ISO/IEC 23009-1 §5.3.2")
def test_a_discontinuity_begins_a_period(fed: HandFed) -> None:
    fed.restart(30)
    fed.publish(PARTS + 1)
    first, second = manifest(fed).findall("Period", NAMES)
    assert seconds(first.get("start")) == NUMBER
    # Eight segments and two parts of seven frames; then thirty seconds without a source. Not rounded up: a
    # period ends with its media, or a player waits for what isn't there.
    assert 0 <= 8 + Fraction(14, 30) - seconds(first.get("duration")) < Fraction(1, 1000)
    assert {template["endNumber"] for template in templates(first).values()} == {str(NUMBER + 8)}
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


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.9.5.3")
def test_a_segment_that_never_came_is_a_time_without_samples(
    fed: HandFed, tools: Tools, tmp_path: Path
) -> None:
    """By numbers and a clock players see no gap before they fetch the manifest that ends the period."""
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(fed.ask, f"/live/test/240p/{NUMBER + 9}.m4s")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the request to wait")
        fed.publish(2 * PARTS, "audio")
        fed.restart()
        lost = [held.result(), fed.ask(f"/live/test/240p/{NUMBER + 10}.m4s")]
    (period,) = manifest(fed).findall("Period", NAMES)
    assert templates(period)["240p"]["endNumber"] == f"{NUMBER + 8}"
    init, before = (
        fed.ask(f"/live/test/240p/{name}") for name in (f"init-{NUMBER}.mp4", f"{NUMBER + 7}.m4s")
    )
    for number, answer in enumerate(lost, NUMBER + 9):
        assert (answer.status, answer["content-type"]) == (200, "video/mp4")
        # No cache takes it for what is never anything else.
        assert answer["cache-control"] == "public, max-age=1"
        # ISO/IEC 14496-12 §8.8.12: where the template puts it; §8.8.7: and its duration is empty.
        template = templates(period)["240p"]
        begin = (number - int(template["startNumber"])) * int(template["duration"])
        time = (begin + int(template["presentationTimeOffset"])).to_bytes(8, "big")
        assert b"tfdt\x01\0\0\0" + time in answer.body
        assert answer.body[answer.body.index(b"tfhd") + 5] & 0x01
    counts = []
    for name, media in (("whole", [before]), ("lost", [before, *lost])):
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(init.body + b"".join(one.body for one in media))
        command = (
            f"{tools.ffprobe} -v warning -count_packets -show_entries stream=nb_read_packets {path}".split()
        )
        probed = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
        assert probed.stderr == ""
        counts += re.findall(r"nb_read_packets=(\d+)", probed.stdout)
    assert counts == ["30", "30"]


def test_a_segment_that_is_due_and_does_not_come_is_not_unknown(fed: HandFed) -> None:
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(fed.ask, f"/live/test/{name}/{NUMBER + 10}.m4s") for name in ("240p", "audio")]
        wait_for(lambda: fed.channel.stream.blocked == 2, "the requests to wait")
        fed.in_loop(fed.channel.close)
        for answer in (one.result() for one in held):
            assert (answer.status, answer["retry-after"], answer["cache-control"]) == (503, "1", "no-store")


def test_an_ended_channel_has_an_end(fed: HandFed) -> None:
    fed.end()
    root = manifest(fed)
    assert root.get("minimumUpdatePeriod") is None
    (period,) = root.findall("Period", NAMES)
    # Two parts of seven pictures are shorter than two of twelve frames of sound, which end last.
    assert seconds(period.get("duration")) == 8 + Fraction(2 * 12 * 1024, 48_000)
    assert {template["endNumber"] for template in templates(period).values()} == {str(NUMBER + 8)}


def test_tokens_are_carried_onto_addresses(fed: HandFed) -> None:
    (period,) = manifest(fed, "?token=a%22%3C%24&_HLS_x=1").findall("Period", NAMES)
    # "$" would begin an identifier of the template (§5.3.9.4.4).
    for template in templates(period).values():
        assert template["media"] == "$Number$.m4s?token=a%22%3C%24"
        assert template["initialization"] == f"init-{NUMBER}.mp4?token=a%22%3C%24"


def test_the_clock_is_this_origins(fed: HandFed) -> None:
    before = datetime.now(UTC)
    answer = fed.ask("/api/time")
    told = datetime.fromisoformat(answer.body.decode().removesuffix("Z") + "+00:00")
    # Its text has milliseconds.
    assert (before - told).total_seconds() < 0.001
    assert told <= datetime.now(UTC)
    assert answer["cache-control"] == "no-store"
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.body)


def test_the_sound_of_the_open_segment_comes_part_by_part_too(fed: HandFed) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fed.ask, f"/live/test/audio/{NUMBER + 8}.m4s")
        wait_for(lambda: fed.channel.stream.blocked == 1, "the wait for a part")
        fed.publish(PARTS - 2)
        body = answer.result().body
    parts = [fed.ask(f"/live/test/audio/{NUMBER + 8}.{index}.m4s").body for index in range(SOUND_PARTS)]
    assert body == b"".join(parts)
