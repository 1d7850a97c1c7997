"""What OBS is asked to encode: the channel's ladder, as far as it and its computer can."""

from __future__ import annotations

import json
from typing import Any

import pytest

from media.errors import MalformedError
from origin.ingest.limits import IngestLimits
from origin.ingest.multitrack_configuration import ChannelWish, client_configuration, read_client
from packager.ffmpeg.ladder import rungs
from tests.origin.ingest.multitrack_requests import ASKED, CANVAS, changed

LIMITS = IngestLimits()
SERVER = "rtmp://origin.example:1935/live"
WISH = ChannelWish(SERVER, rungs(["source", "720p", "360p"]), 2.0)


def configured(wish: ChannelWish = WISH, **parts: Any) -> dict[str, Any]:
    """Give the answer to a request with other fields, as OBS reads it."""
    client = read_client(json.dumps(changed(ASKED, **parts)).encode(), LIMITS)
    answer: dict[str, Any] = json.loads(json.dumps(client_configuration(client, wish)))
    return answer


def sizes(answer: dict[str, Any]) -> list[tuple[int, int]]:
    return [(one["width"], one["height"]) for one in answer["encoder_configurations"]]


def test_the_whole_ladder_is_asked_for_in_obs_form() -> None:
    answer = configured()
    assert answer["meta"] == {"service": "IVS", "schema_version": "2025-01-25", "config_id": ""}
    assert answer["status"] == {"result": "success", "html_en_us": None}
    (endpoint,) = answer["ingest_endpoints"]
    # OBS takes off what begins with /{stream_key}, and goes on with the key that was typed in.
    assert endpoint["protocol"] == "RTMP"
    assert endpoint["url_template"] == f"{SERVER}/{{stream_key}}"
    assert endpoint["authentication"] is None
    assert sizes(answer) == [(1920, 1080), (1280, 720), (640, 360)]
    first = answer["encoder_configurations"][0]
    assert first["type"] == "obs_x264"
    assert first["framerate"] == {"numerator": 30, "denominator": 1}
    assert first["settings"]["bitrate"] == 5000
    keys = {one["settings"]["keyint_sec"] for one in answer["encoder_configurations"]}
    assert keys == {2}
    (sound,) = answer["audio_configurations"]["live"]
    # Without any of these OBS refuses the answer.
    assert set(sound) == {"codec", "track_id", "channels", "settings"}
    assert "KEY" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"width": 1280, "height": 720}, [(1280, 720), (1280, 720), (640, 360)]),
        ({"width": 1080, "height": 1920}, [(1080, 1920), (720, 1280), (360, 640)]),
        ({"width": 1440, "height": 1080}, [(1440, 1080), (960, 720), (480, 360)]),
        ({"width": 2560, "height": 1080}, [(2560, 1080), (1706, 720), (854, 360)]),
    ],
)
def test_pictures_have_the_form_of_the_canvas_and_the_lines_of_the_ladder(
    parts: dict[str, int], expected: list[tuple[int, int]]
) -> None:
    for preferences in ({"canvases": [CANVAS | parts]}, {"canvases": None, **CANVAS, **parts}):
        assert sizes(configured(preferences=preferences)) == expected


@pytest.mark.parametrize(
    ("version", "system", "maker", "encoder"),
    [
        ("31.0.0", "Windows", 0x10DE, "obs_nvenc_h264_tex"),
        ("30.2.3", "Windows", 0x10DE, "jim_nvenc"),
        ("31.0.0", "Windows", 0x1002, "h264_texture_amf"),
        ("31.0.0", "Linux", 0x1002, "obs_x264"),
        ("31.0.0", "Windows", 0x8086, "obs_x264"),
        ("31.0.0", "macOS", 0x106B, "com.apple.videotoolbox.videoencoder.ave.avc"),
    ],
)
def test_the_graphics_card_encodes_where_obs_has_an_encoder_for_it(
    version: str, system: str, maker: int, encoder: str
) -> None:
    machine = {"gpu": [{"vendor_id": maker}], "system": {"name": system}}
    answer = configured(client={"version": version}, capabilities=machine)
    assert {one["type"] for one in answer["encoder_configurations"]} == {encoder}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"preferences": {"maximum_video_tracks": 2}}, "2 of 3 pictures"),
        ({"preferences": {"maximum_aggregate_bitrate": 3000}}, "3000 kbit/s"),
        ({"capabilities": {"cpu": {"physical_cores": 2}}}, "too much for this computer"),
    ],
)
def test_one_picture_is_sent_and_obs_says_why_where_all_are_too_much(
    parts: dict[str, Any], told: str
) -> None:
    answer = configured(**parts)
    assert sizes(answer) == [(1920, 1080)]
    assert answer["status"]["result"] == "warning"
    assert told in answer["status"]["html_en_us"]
    most = parts.get("preferences", {}).get("maximum_aggregate_bitrate", 5000)
    assert answer["encoder_configurations"][0]["settings"]["bitrate"] == most


def test_less_bandwidth_makes_all_pictures_worse_down_to_half_of_the_usual() -> None:
    answer = configured(preferences={"maximum_aggregate_bitrate": 4300})
    assert [one["settings"]["bitrate"] for one in answer["encoder_configurations"]] == [2500, 1400, 400]
    assert answer["status"]["result"] == "success"


def test_a_second_sound_is_configured_where_obs_sends_one() -> None:
    assert len(configured(preferences={"vod_track_audio": True})["audio_configurations"]["vod"]) == 1


def test_without_an_encoder_of_h264_nothing_begins() -> None:
    answer = configured(client={"supported_codecs": ["av1"]})
    assert answer["status"]["result"] == "error"
    assert answer["encoder_configurations"] == []


def test_a_ladder_without_the_source_is_made_of_one_picture() -> None:
    answer = configured(ChannelWish(SERVER, rungs(["720p", "360p"]), 2.0))
    assert sizes(answer) == [(1920, 1080)]
    assert "begin with source" in answer["status"]["html_en_us"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 60_000,
        b"[]",
        b'{"authentication": 5}',
        b'{"preferences": {"canvases": [{"width": 0}]}}',
        b'{"preferences": {"canvases": [{"width": 1e300}]}}',
        b'{"preferences": {"canvases": [{"framerate": {"denominator": 0}}]}}',
        b'{"preferences": {"canvases": {}}}',
        b'{"preferences": {"maximum_video_tracks": -1}}',
        b'{"preferences": {"vod_track_audio": 1}}',
        b'{"capabilities": {"cpu": {"physical_cores": true}}}',
        b'{"capabilities": {"gpu": [5]}}',
        b'{"client": "obs"}',
    ],
)
def test_what_is_no_such_request_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_client(data, LIMITS)


def test_a_request_with_nothing_but_the_key_is_of_a_usual_machine() -> None:
    client = read_client(b'{"authentication": "studio?key=KEY"}', LIMITS)
    assert client.size == (1920, 1080)
    assert client.frame_rate == 30
    assert "KEY" not in repr(client)
