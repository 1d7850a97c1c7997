"""Events in the media (ISO/IEC 23009-1 §5.10.3.3): ID3 tags before the part that is on at their time."""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from media.mp3.id3 import write_id3v2
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import NUMBER, OPTIONS, PARTS, HandFed, Track, on_air
from tests.conformance.raw import Answer, Client
from tests.keys import BEARER_LINE

TICKS = 15360
"""ffmpeg's timescale for thirty frames a second."""


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    """A channel with two segments and two parts."""
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(2 * PARTS + 2)
        yield fed


def post(fed: HandFed, body: dict[str, Any]) -> Answer:
    data = json.dumps(body).encode()
    fields = f"Host: x\r\nContent-Type: application/json\r\n{BEARER_LINE}\r\n"
    head = f"POST /live/test/metadata HTTP/1.1\r\n{fields}"
    with Client(fed.address) as client:
        client.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return client.answer()


def get(fed: HandFed, name: str, rendition: str = "240p") -> bytes:
    with Client(fed.address) as client:
        answer = client.ask(f"/live/test/{rendition}/{name}")
    assert answer.status == 200, name
    return answer.body


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def boxes(data: bytes) -> list[tuple[str, bytes]]:
    """The boxes of one level: a size, a type, the payload (ISO/IEC 14496-12 §4.2)."""
    found = []
    while data:
        size, kind = struct.unpack_from(">I4s", data)
        found.append((kind.decode(), data[8:size]))
        data = data[size:]
    return found


@dataclass(frozen=True)
class Message:
    timescale: int
    time: int
    duration: int
    id: int
    scheme: str
    frames: dict[str, str]


def messages(part: bytes) -> list[Message]:
    """The event messages of a part, by the tables of ISO/IEC 23009-1 §5.10.3.3.3 and ID3v2.4 §4."""
    found = []
    for kind, payload in boxes(part):
        if kind == "emsg":
            version, timescale, time, duration, number = struct.unpack_from(">IIQII", payload)
            scheme, value, tag = payload[24:].split(b"\0", 2)
            assert (version, value) == (0x0100_0000, b"")
            found.append(Message(timescale, time, duration, number, scheme.decode(), frames(tag)))
    return found


def frames(tag: bytes) -> dict[str, str]:
    assert tag[:6] == b"ID3\x04\0\0"
    body, found = tag[10:], {}
    while body:
        size = sum(byte << shift for byte, shift in zip(body[4:8], (21, 14, 7, 0), strict=True))
        value = body[10 : 10 + size].lstrip(b"\x03").decode()
        name, _, text = value.rpartition("\0")
        found[body[:4].decode() + (f":{name}" if name else "")] = text
        body = body[10 + size :]
    return found


def parts(fed: HandFed, rendition: str = "240p") -> list[str]:
    text = get(fed, "media.m3u8", rendition).decode()
    return re.findall(r'#EXT-X-PART:DURATION=[0-9.]+,URI="([^"]+)"', text)


def packets(tools: Tools, path: Path) -> list[int]:
    command = [str(tools.ffprobe), "-v", "error", "-show_entries", "packet=dts", "-of", "json", str(path)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return [packet["dts"] for packet in answer["packets"]]


def test_an_event_stands_before_the_part_that_begins_with_it(
    fed: HandFed, tools: Tools, tmp_path: Path
) -> None:
    body = {"id": "song", "class": "music", "attributes": {"X-N": 1.5}, "id3": {"TIT2": 'Größe "1"'}}
    assert post(fed, body).status == 201
    fed.publish(PARTS)
    name = f"{NUMBER + 2}.2.m4s"
    part = get(fed, name)
    assert [kind for kind, _ in boxes(part)] == ["emsg", "moof", "mdat"]
    (message,) = messages(part)
    # Two segments of a second and two parts of seven frames at thirty a second.
    assert (message.timescale, message.time) == (TICKS, (NUMBER + 2) * TICKS + 14 * TICKS // 30)
    # Carriage of ID3, "Semantics": without a duration it is unknown
    assert (message.duration, message.scheme) == (0xFFFF_FFFF, "https://aomedia.org/emsg/ID3")
    assert message.frames == {
        "TXXX:ID": "song",
        "TXXX:CLASS": "music",
        "TXXX:X-N": "1.5",
        "TIT2": 'Größe "1"',
    }
    init = get(fed, f"init-{NUMBER}.mp4")
    path = tmp_path / "part.mp4"
    path.write_bytes(init + part)
    assert packets(tools, path)[0] == message.time
    # It is in that part alone, which is the same in the segment, and sound has none.
    assert [name for name in parts(fed) if messages(get(fed, name))] == [name]
    whole = get(fed, f"{NUMBER + 2}.m4s")
    assert whole == b"".join(get(fed, f"{NUMBER + 2}.{index}.m4s") for index in range(PARTS))
    assert not any(messages(get(fed, name, "audio")) for name in parts(fed, "audio"))


def test_ffmpeg_plays_segments_with_events(fed: HandFed, tools: Tools, tmp_path: Path) -> None:
    for number in range(3):
        assert post(fed, {"id3": {"TIT2": f"title {number}"}}).status == 201
        fed.publish(1)
    fed.publish(PARTS - 5 + PARTS)
    init = get(fed, f"init-{NUMBER}.mp4")
    segments = [get(fed, f"{NUMBER + number}.m4s") for number in range(3)]
    assert [len(messages(segment)) for segment in segments] == [0, 0, 3]
    path = tmp_path / "all.mp4"
    path.write_bytes(init + b"".join(segments))
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(packets(tools, path)) == 3 * 30


def test_an_event_to_come_waits_for_its_part_and_has_its_duration(fed: HandFed) -> None:
    for second, duration in ((4.3, 2.5), (3.1, 0.5)):
        body = {"id": str(second), "start": iso(NUMBER + second), "duration": duration}
        assert post(fed, body).status == 201
    fed.publish(3 * PARTS)
    found = {name: one for name in parts(fed) for one in messages(get(fed, name))}
    # Parts are seven frames long: 3.1 s is in the first one of its segment, 4.3 s in the second.
    assert {name: one.frames["TXXX:ID"] for name, one in found.items()} == {
        f"{NUMBER + 3}.0.m4s": "3.1",
        f"{NUMBER + 4}.1.m4s": "4.3",
    }
    late = found[f"{NUMBER + 4}.1.m4s"]
    assert (late.time, late.duration) == (round((NUMBER + 4.3) * TICKS), round(2.5 * TICKS))
    assert len({one.id for one in found.values()}) == 2


def test_an_event_that_comes_late_happens_late_or_for_what_is_left(
    material: dict[str, Track], tools: Tools, tmp_path: Path
) -> None:
    options = replace(OPTIONS, limits=LiveLimits(metadata_late_seconds=1))
    with on_air(material, tools, tmp_path, options) as fed:
        fed.publish(2 * PARTS + 2)
        for name, second, duration in (("late", 2, 0), ("over", 0, 2), ("lasts", 0, 10), ("gone", 0, 0)):
            body = {"id": name, "start": iso(NUMBER + second), "duration": duration}
            assert post(fed, body).status == 201
        fed.publish(1)
        begin = (NUMBER + 2) * TICKS + 14 * TICKS // 30
        found = {one.frames["TXXX:ID"]: one for one in messages(get(fed, f"{NUMBER + 2}.2.m4s"))}
        assert {one.time for one in found.values()} == {begin}
        assert {name: one.duration for name, one in found.items()} == {
            "late": 0xFFFF_FFFF,
            "lasts": 10 * TICKS - (begin - NUMBER * TICKS),
        }


def test_nothing_is_taken_when_all_is_over(fed: HandFed) -> None:
    fed.end()
    assert post(fed, {"id": "late"}).status == 503
    assert b"EXT-X-DATERANGE" not in get(fed, "media.m3u8")


def test_the_end_of_a_planned_event_is_told_in_playlists_only(fed: HandFed) -> None:
    assert post(fed, {"id": "ad", "planned_duration": 2}).status == 201
    fed.publish(1)
    assert post(fed, {"id": "ad", "duration": 1}).status == 201
    fed.publish(PARTS)
    found = [one for name in parts(fed) for one in messages(get(fed, name))]
    assert [(one.frames["TXXX:ID"], one.duration) for one in found] == [("ad", 2 * TICKS)]


def test_a_whole_tag_goes_as_it_is(fed: HandFed) -> None:
    tag = write_id3v2([("TIT2", "ready-made")])
    assert post(fed, {"id3": base64.b64encode(tag).decode()}).status == 201
    fed.publish(1)
    (message,) = messages(get(fed, f"{NUMBER + 2}.2.m4s"))
    assert message.frames == {"TIT2": "ready-made"}


@pytest.mark.parametrize(
    "id3",
    [
        {"TXXX": "no name"},
        {"PRIV": "not text"},
        {"TIT2": "a\0b"},
        {"WOAR": "\u20ac"},
        {f"TXXX:{number}": "x" for number in range(33)},
        "not base64!",
        base64.b64encode(b"no tag").decode(),
        base64.b64encode(b"ID3\x03\0\0\0\0\0\0").decode(),
    ],
)
def test_what_is_no_tag_is_refused_and_nothing_is_told(fed: HandFed, id3: object) -> None:
    answer = post(fed, {"id3": id3})
    assert answer.status == 400
    assert answer.body.count(b"\n") == 1
    fed.publish(PARTS)
    assert b"EXT-X-DATERANGE" not in get(fed, "media.m3u8")
    assert not any(messages(get(fed, name)) for name in parts(fed))


def test_events_that_wait_are_bounded(material: dict[str, Track], tools: Tools, tmp_path: Path) -> None:
    options = replace(OPTIONS, limits=LiveLimits(waiting_metadata=2))
    with on_air(material, tools, tmp_path, options) as fed:
        fed.publish(2 * PARTS + 2)
        assert [post(fed, {"id": name}).status for name in "abc"] == [201, 201, 409]
        assert get(fed, "media.m3u8").count(b"EXT-X-DATERANGE") == 2
        fed.publish(1)
        assert post(fed, {"id": "c"}).status == 201


def test_the_tags_of_events_that_wait_are_bounded_in_bytes(fed: HandFed) -> None:
    """All of them may become due in one part."""
    body = {"id3": {f"TXXX:{number}": "x" * 3000 for number in range(4)}}
    statuses = [post(fed, body).status for _ in range(25)]
    assert statuses == [201] * 21 + [409] * 4
    assert get(fed, "media.m3u8").count(b"EXT-X-DATERANGE") == 21
    fed.publish(1)
    assert post(fed, body).status == 201


def test_the_dash_manifest_announces_the_events(fed: HandFed) -> None:
    with Client(fed.address) as client:
        manifest = client.ask("/live/test/manifest.mpd").body.decode()
    (video,) = re.findall(r'<AdaptationSet contentType="video".*?</AdaptationSet>', manifest, re.DOTALL)
    (sound,) = re.findall(r'<AdaptationSet contentType="audio".*?</AdaptationSet>', manifest, re.DOTALL)
    # §5.3.7.2: it and what else representations have too stand before the elements that are the set's own.
    first, *others = ElementTree.fromstring(video)
    announced = {"schemeIdUri": "https://aomedia.org/emsg/ID3", "value": ""}
    assert (first.tag, first.attrib) == ("InbandEventStream", announced)
    assert [one.tag for one in others[:2]] == ["ProducerReferenceTime", "Role"]
    assert "InbandEventStream" not in sound
