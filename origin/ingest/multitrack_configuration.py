"""Client configurations for OBS: the video tracks that it encodes for a channel.

With multitrack video (which Twitch calls Enhanced Broadcasting) OBS 30.2 and later POST what their machine
can do, and do what the answer says. Its form is that of OBS's frontend/utility/models/multitrack-video.hpp.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from media.errors import MalformedError
from origin.ingest.limits import IngestLimits
from packager.ffmpeg.ladder import COPY, COPY_BITRATE, RUNGS, SOURCE_RUNG, Rung

SCHEMA_VERSION = "2025-01-25"
NVIDIA, AMD, APPLE = 0x10DE, 0x1002, 0x106B
"""PCI's numbers of makers of graphics cards."""


HARDWARE_PICTURES = 5
"""Most pictures that a graphics card encodes at once: NVIDIA's drivers allow five since 2023."""

SOFTWARE_SHARE = 0.5
"""Share of the processor's cores that may encode; a game may need the others."""

SOFTWARE_PIXELS = 30 * 1920 * 1080
"""Pixels that a core encodes in a second by x264's preset veryfast: 30 pictures of 1080p."""

LEAST_BITRATE_SHARE = 0.5
"""Least share of the usual bitrates; below it, OBS sends fewer pictures, and not worse ones."""

KEYFRAME_SECONDS = 2
"""Longest time between two key frames."""

AUDIO_KILOBITS = 160
"""Bitrate of the sound in kbit/s."""


@dataclass(frozen=True, slots=True)
class ObsClient:
    """OBS's description of itself and its machine.

    Attributes:
        stream_key: as it is typed into its settings.
        version: the first number of its version.
        codecs: that it has encoders for.
        makers: of its graphics cards, by PCI's numbers.
        system: name of the operating system.
        size: width and height of the main canvas as it is sent, in pixels.
        frame_rate: pictures per second.
        bitrate: most bits per second of all pictures together; 0: as many as are asked for.
        pictures: how many it sends at most; 0: as many as are asked for.
        has_second_sound: whether it sends a second sound for recordings, which needs a configuration too.
    """

    stream_key: str = field(repr=False)
    version: int
    codecs: frozenset[str]
    cores: int
    makers: frozenset[int]
    system: str
    size: tuple[int, int]
    frame_rate: Fraction
    bitrate: int
    pictures: int
    channels: int
    has_second_sound: bool


def read_client(data: bytes, limits: IngestLimits) -> ObsClient:
    """Read OBS's request; what it leaves out is taken to be usual.

    Raises:
        MalformedError: it isn't such a request; the text says what is wrong.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedError("the request isn't JSON") from None
    told = _Fields(value, "the request", limits)
    client, preferences = told.part("client"), told.part("preferences")
    capabilities = told.part("capabilities")
    # Until version 31 the one canvas was among the preferences.
    canvas = next(preferences.parts("canvases"), preferences)
    rate = canvas.part("framerate")
    major = client.text("version").partition(".")[0]
    most = limits.configured_pixels
    return ObsClient(
        told.text("authentication"),
        int(major) if major.isdecimal() and major.isascii() and len(major) < 5 else 0,
        frozenset(client.texts("supported_codecs")) or frozenset({"h264"}),
        capabilities.part("cpu").number("physical_cores", 1, 4096, 4),
        frozenset(card.number("vendor_id", 0, 1 << 32, 0) for card in capabilities.parts("gpu")),
        capabilities.part("system").text("name"),
        (canvas.number("width", 16, most, 1920), canvas.number("height", 16, most, 1080)),
        Fraction(rate.number("numerator", 1, 1 << 32, 30), rate.number("denominator", 1, 1 << 32, 1)),
        1000 * preferences.number("maximum_aggregate_bitrate", 0, 1 << 32, 0),
        preferences.number("maximum_video_tracks", 0, 1 << 32, 0),
        preferences.number("audio_channels", 1, 8, 2),
        preferences.flag("vod_track_audio"),
    )


class _Fields:
    """Reads the fields of a JSON object, each with bounds; one that is missing or null has its default."""

    def __init__(self, value: object, name: str, limits: IngestLimits) -> None:
        if not isinstance(value, dict):
            raise MalformedError(f"{name} isn't an object")
        self._value = value
        self._limits = limits

    def part(self, name: str) -> _Fields:
        return _Fields(self._given(name, {}), name, self._limits)

    def parts(self, name: str) -> Iterator[_Fields]:
        return (_Fields(one, name, self._limits) for one in self._list(name))

    def texts(self, name: str) -> Iterator[str]:
        return (one for one in self._list(name) if isinstance(one, str))

    def _list(self, name: str) -> Sequence[object]:
        value = self._given(name, [])
        if not isinstance(value, list):
            raise MalformedError(f"{name} isn't a list")
        return value[: self._limits.listed_parts]

    def text(self, name: str) -> str:
        value = self._given(name, "")
        if not isinstance(value, str):
            raise MalformedError(f"{name} isn't a text")
        return value

    def number(self, name: str, least: int, most: int, default: int) -> int:
        value = self._given(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise MalformedError(f"{name} isn't a whole number from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        value = self._given(name, False)
        if not isinstance(value, bool):
            raise MalformedError(f"{name} is neither true nor false")
        return value

    def _given(self, name: str, default: object) -> object:
        value = self._value.get(name)
        return default if value is None else value


@dataclass(frozen=True, slots=True)
class _WantedPicture:
    """One picture that is asked for: its size in pixels, its bits per second."""

    width: int
    height: int
    bitrate: int


def refusal_configuration(reason: str) -> dict[str, Any]:
    """Return the refusal of a request; OBS shows the text and doesn't begin."""
    return _configuration("error", reason, [], {}, [])


@dataclass(frozen=True, slots=True)
class ChannelWish:
    """The tracks that a channel wants of its publisher.

    Attributes:
        server: address to which it is published, as it is typed into OBS.
        segment_duration: seconds of its segments.
    """

    server: str
    ladder: Sequence[Rung]
    segment_duration: float


def client_configuration(client: ObsClient, wish: ChannelWish) -> dict[str, Any]:
    """Return what OBS is to publish: each rendition of a ladder, or the main picture alone."""
    if "h264" not in client.codecs:
        return refusal_configuration("Multitrack video is taken in H.264, for which OBS has no encoder.")
    pictures = [_picture(client, rung) for rung in wish.ladder]
    missing = _why_alone(client, wish.ladder, pictures)
    if missing:
        pictures = [_picture(client, SOURCE_RUNG)]
    share = _bitrate_share(client, pictures)
    keyframes = max(min(round(wish.segment_duration), KEYFRAME_SECONDS), 1)
    made = [_encoder(client, one, int(one.bitrate * share), keyframes) for one in pictures]
    sound = {
        "codec": "aac",
        "track_id": 1,
        "channels": client.channels,
        "settings": {"bitrate": AUDIO_KILOBITS},
    }
    sounds = {"live": [sound], "vod": [{**sound, "track_id": 2}] if client.has_second_sound else None}
    told = f"OBS sends one picture, of which the server makes the others: {missing}." if missing else ""
    # Without another key, OBS uses the one that its user has typed in, and doesn't log it.
    endpoint = {"protocol": "RTMP", "url_template": f"{wish.server}/{{stream_key}}", "authentication": None}
    return _configuration("warning" if missing else "success", told, made, sounds, [endpoint])


def _why_alone(
    client: ObsClient,
    ladder: Sequence[Rung],
    pictures: Sequence[_WantedPicture],
) -> str:
    """Return why the client can't send all pictures; empty if it can."""
    if ladder[0].name != COPY:
        return "the channel's ladder doesn't begin with source"
    if len(pictures) == 1:
        return ""
    if client.pictures and client.pictures < len(pictures):
        return f"it is set to send {client.pictures} of {len(pictures)} pictures at most"
    if _bitrate_share(client, pictures) < LEAST_BITRATE_SHARE:
        return f"it is set to send {client.bitrate // 1000} kbit/s at most"
    if not _can_encode(client, pictures):
        return f"encoding {len(pictures)} pictures might be too much for this computer"
    return ""


def _configuration(
    result: str, told: str, encoders: list[Any], sounds: dict[str, Any], endpoints: list[Any]
) -> dict[str, Any]:
    return {
        "meta": {"service": "IVS", "schema_version": SCHEMA_VERSION, "config_id": ""},
        "status": {"result": result, "html_en_us": html.escape(told) or None},
        "ingest_endpoints": endpoints,
        "encoder_configurations": encoders,
        "audio_configurations": sounds or {"live": [], "vod": None},
    }


def _picture(client: ObsClient, rung: Rung) -> _WantedPicture:
    """Return the size and bitrate of a rendition, of the form that the canvas has."""
    width, height = client.size
    lines = min(client.size)
    if rung.name == COPY:
        usual = [one.bitrate for one in RUNGS.values() if one.height >= lines]
        bitrate = min(usual, default=COPY_BITRATE * width * height // (1920 * 1080))
    else:
        bitrate = rung.bitrate
        width, height = (_even(one, rung.height, lines) for one in client.size)
    return _WantedPicture(width, height, bitrate * 3 // 2 if client.frame_rate > 30 else bitrate)


def _even(side: int, lines: int, former_lines: int) -> int:
    return round(Fraction(side * lines, 2 * former_lines)) * 2


def _bitrate_share(client: ObsClient, pictures: Sequence[_WantedPicture]) -> float:
    """Return the share of their bitrates that is left where the client has a limit for all of them."""
    return min(client.bitrate / sum(one.bitrate for one in pictures), 1.0) if client.bitrate else 1.0


def _can_encode(client: ObsClient, pictures: Sequence[_WantedPicture]) -> bool:
    if _hardware_encoder(client) is not None:
        return len(pictures) <= HARDWARE_PICTURES
    needed = sum(one.width * one.height for one in pictures) * client.frame_rate
    return needed <= SOFTWARE_PIXELS * max(int(client.cores * SOFTWARE_SHARE), 1)


def _hardware_encoder(client: ObsClient) -> tuple[str, dict[str, Any]] | None:
    """Return OBS's name of a graphics card's H.264 encoder, and settings that only this one has."""
    if NVIDIA in client.makers:
        name = "obs_nvenc_h264_tex" if client.version >= 31 else "jim_nvenc"
        return name, {"preset": "p5", "tune": "hq", "multipass": "disabled", "bf": 2}
    if AMD in client.makers and client.system == "Windows":
        return "h264_texture_amf", {"preset": "quality", "bf": 0}
    if APPLE in client.makers:
        return "com.apple.videotoolbox.videoencoder.ave.avc", {"bframes": False}
    return None


def _encoder(client: ObsClient, picture: _WantedPicture, bitrate: int, keyframes: int) -> dict[str, Any]:
    name, own = _hardware_encoder(client) or ("obs_x264", {"preset": "veryfast", "tune": ""})
    rate = client.frame_rate
    return {
        "type": name,
        "width": picture.width,
        "height": picture.height,
        "framerate": {"numerator": rate.numerator, "denominator": rate.denominator},
        "gpu_scale_type": "OBS_SCALE_BICUBIC",
        "colorspace": "VIDEO_CS_709",
        "range": "VIDEO_RANGE_PARTIAL",
        "format": "VIDEO_FORMAT_NV12",
        "bitrate_interpolation_points": None,
        "settings": {
            "rate_control": "CBR",
            "bitrate": bitrate // 1000,
            "keyint_sec": keyframes,
            "profile": "high",
            **own,
        },
        "canvas_index": 0,
    }
