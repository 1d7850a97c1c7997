"""Renditions of films that are encoded on request: their sizes, bit rates and segments, by a film's index.

A rendition's playlist is complete before anything is encoded. Its segments are those of the film's own track
where key frames are close enough, so that players can change between the two; else they last four seconds.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from media.mp4.codecs.audio_specific_config import write_audio_specific_config
from media.mp4.codecs.colour import BT709, RGB, UNSPECIFIED, Colour, usual_matrix
from media.mp4.codecs.decodable_entry import codec_of_fourcc
from media.mp4.codecs.esds import MPEG4_AUDIO, elementary_stream_box
from media.mp4.codecs.sample_entry import OTHER_CODECS, SampleEntry
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.movie.box_arrays import Int64, stretches
from media.mp4.movie.track_box import TrackFacts
from packager.ffmpeg.arguments import MAX_PIXELS
from packager.ffmpeg.colours import HDR_FILTERS, MATRICES
from packager.ffmpeg.picture_encoder import SOFTWARE, PictureEncoder
from packager.process.ffmpeg_discovery import Tools
from packager.vod.index.file_index import ENCODED_SOUND, ONLY_I_FRAMES, SUBTITLED, FileIndex, OfferedTrack
from packager.vod.index.segment_boundaries import MAX_SEGMENTS
from packager.vod.movie.versioned_addresses import MediaVersion
from packager.vod.segments.bandwidth import peak_bandwidth
from packager.vod.text.text_tracks import PictureSubtitles

ENCODING = 5
"""Version of the encoding; another one gives every encoded segment a new address."""

Mode = Literal["auto", "all", "off"]
"""Which renditions are encoded: those that most browsers need, those of every film, or none."""

PICTURE_NAME = "video"
ENCODED_NAME = (
    rf"{PICTURE_NAME}-[1-9][0-9]*p(?:-subtitles-[1-8])?(?:-iframes)?|audio(?:-[1-9][0-9]*)?{ENCODED_SOUND}"
)
"""Pattern of the names of renditions, which say the height of the picture or the sound that is encoded."""

LONGEST_COPIED = 10
"""Seconds of the longest segment of a film's own track whose boundaries encoded renditions share."""

GRID_SECONDS = 4
"""Seconds of segments where they can't follow the film's own key frames."""

RUNGS = ((1080, 5_000_000), (720, 2_800_000), (480, 1_400_000), (360, 800_000))
"""Pixels of the shorter side of encoded pictures, and their largest bit rates, up to 33 pictures a second."""

LARGEST_PICTURE = RUNGS[0][0]
"""Pixels of the shorter side of the largest encoded picture."""

SMALLER = Fraction(9, 10)
"""How large a smaller rendition may be at most, by the source's shorter side."""

HIGH_FRAME_RATE = 33
"""Pictures per second above which a rendition gets half as many bits again."""

HIGHEST_FRAME_RATE, THINNED_FRAME_RATE = 120, 60
"""Pictures per second above which not all of a source's are encoded, and how many of each second are then."""

H264_PROFILE = 0x64
"""High profile (ITU-T H.264 §A.2.4)."""

LEVELS = (
    (30, 40_500, 1620),
    (31, 108_000, 3600),
    (32, 216_000, 5120),
    (40, 245_760, 8192),
    (42, 522_240, 8704),
    (50, 589_824, 22_080),
    (51, 983_040, 36_864),
    (52, 2_073_600, 36_864),
)
"""Levels of H.264 (table A-1) times ten, with macroblocks per second and per picture at most."""

MACROBLOCK = 16

SOUND_BITRATE = 128_000
SOUND_BOUND = Fraction(3, 2)
"""How many times the mean rate of a segment of sound is at most."""

SOUND_FRAME = 1024
"""Samples of an AAC frame."""

SOUND_RATES = (48_000, 44_100)
"""Samples per second of encoded sound: the second where the source's rate is a part of it."""

SEGMENT_OVERHEAD = 4096
"""Bytes of a segment's header at most, for each second of pictures."""

_BT709 = Colour(BT709, BT709, BT709)

RGB_CODECS = (
    "Cinepak", "DNxHR", "FFV1", "Huffyuv", "JPEG 2000 pictures", "PNG pictures", "QuickTime Animation",
)  # fmt: skip
"""Codecs whose pictures may be RGB, or YUV without any notes of its colours."""


@dataclass(frozen=True, slots=True)
class EncodedRendition:
    """A rendition of a track that is encoded.

    Attributes:
        track: as playlists offer it; its sizes are bounds.
        film_version: the name of the film's version.
        subtitles: subtitles that are shown in the picture; or None.
        encoder: which one encodes pictures; sound has software alone.
    """

    track: OfferedTrack
    source: OfferedTrack
    film_version: str
    subtitles: PictureSubtitles | None = None
    encoder: PictureEncoder = SOFTWARE

    @property
    def size(self) -> tuple[int, int]:
        """Pixels of the picture, width and height; (0, 0) for sound."""
        return self.track.entry.width, self.track.entry.height

    @property
    def is_i_frames(self) -> bool:
        """Whether only the first frame of each segment is encoded."""
        return self.track.name.endswith(ONLY_I_FRAMES)

    @property
    def hdr(self) -> Colour | None:
        """The source's colours if they have the range of brightness of HDR; else None."""
        return None if self.source.entry.video_range == "SDR" else self.source.entry.colour

    @property
    def colour(self) -> Colour | None:
        """The colours that the encoder writes; None: those that the decoded pictures tell."""
        colour = _encoded_colour(self.source)
        return None if colour is self.source.entry.colour else colour

    @property
    def matrix(self) -> int:
        """The matrix coefficients of the encoded pictures: of untagged ones, those of their size."""
        matrix = (_encoded_colour(self.source) or Colour()).matrix
        return matrix if matrix in MATRICES else usual_matrix(self.source.entry.shown_pixels)

    def with_encoder(self, encoder: str, profile: str = "") -> EncodedRendition:
        """Return the rendition of the same name that another encoder encodes: of sound, this one.

        Args:
            encoder: as of `EncodedRenditions`, as the profile.
        """
        track, film = self.track, MediaVersion(self.film_version, self.track.version.changed)
        if not track.video:
            return self
        name = track.name.removesuffix(ONLY_I_FRAMES).partition(SUBTITLED.format(""))[0]
        plain = _version(encoder, film, name, profile).name
        # With subtitles, or of I-frames alone, it is the version of the whole picture, and what names these.
        version = MediaVersion(plain + track.version.name[len(plain) :], film.changed)
        return replace(self, track=replace(track, version=version))


@dataclass(frozen=True, slots=True)
class EncodedRenditions:
    """The encoded renditions of any film.

    Attributes:
        encoder: names the program that encodes and its version; where it is the same on several machines,
            encoded segments have the same addresses.
        profile: as of the encoder of pictures.
        maps_hdr: whether HDR can be mapped to SDR; otherwise such pictures aren't encoded.
        largest: pixels of the shorter side of the largest picture that is offered.
    """

    mode: Mode = "auto"
    encoder: str = ""
    maps_hdr: bool = True
    profile: str = ""
    largest: int = LARGEST_PICTURE

    def tracks(self, index: FileIndex) -> tuple[OfferedTrack, ...]:
        """Return the renditions of a film as its playlists offer them.

        The largest picture is first; the sounds behind the pictures are in the film's order.
        """
        if self.mode == "off":
            return ()
        lost = {track.video: track for track in reversed(index.only_encoded)}
        picture = index.video or lost.get(True)
        sounds = [*index.sounds, *(track for track in index.only_encoded if not track.video)]
        found = [] if picture is None else self._pictures(index, picture)
        times = None if picture is None else (picture if found == [] else found[0])
        for sound in sounds:
            if self.mode == "all" or not sound.plays_everywhere:
                found.append(self._sound(index, sound, times))
        return tuple(found)

    def _pictures(self, index: FileIndex, source: OfferedTrack) -> list[OfferedTrack]:
        shorter, rate = min(_seen_size(source)), source.frame_rate
        is_hdr = source.entry.video_range != "SDR"
        if source.entry.width * source.entry.height > MAX_PIXELS:
            return []
        if shorter < 2 * MACROBLOCK or rate <= 0 or (is_hdr and not self.maps_hdr):
            return []
        smaller = int(shorter * SMALLER)
        heights = [height for height, _ in RUNGS if height <= min(smaller, self.largest)]
        if not source.plays_everywhere or self.mode == "all":
            heights.insert(0, min(shorter, self.largest))
        times = _segment_times(source)
        return [self._picture(index, source, height, times) for height in dict.fromkeys(heights)]

    def _picture(self, index: FileIndex, source: OfferedTrack, height: int, times: Int64) -> OfferedTrack:
        size = _scaled(_seen_size(source), height)
        if source.frame_rate > HIGHEST_FRAME_RATE:
            source = replace(source, most_frames=THINNED_FRAME_RATE)
        bitrate = _bitrate(source, size, height)
        entry = SampleEntry(
            b"avc1",
            f"avc1.{H264_PROFILE:02x}00{_level(size, source.frame_rate):02x}",
            b"",
            (),
            *size,
            colour=_encoded_colour(source),
        )
        name = f"{PICTURE_NAME}-{height}p"
        seconds = np.diff(times) / source.timescale
        # The buffer may be full when a segment begins, and holds a second.
        sizes = np.ceil((seconds + 1) * (bitrate / 8) + seconds * SEGMENT_OVERHEAD).astype(np.int64)
        return replace(
            source,
            name=name,
            track_id=1,
            entry=entry,
            rotation=0,
            cuts=times,
            sizes=sizes,
            times=times,
            init=b"",
            delay=0,
            bitrate=bitrate,
            is_bounded=True,
            version=_version(self.encoder, index.version, name, self.profile),
        )

    def _sound(self, index: FileIndex, source: OfferedTrack, picture: OfferedTrack | None) -> OfferedTrack:
        rate = _sound_rate(source.entry.sample_rate)
        # The last frame ends with the sound, or behind it; behind the film's own is silence.
        ends = [Fraction(int(one.times[-1]), one.timescale) for one in (source, picture) if one is not None]
        end = math.ceil(max(ends) * rate / SOUND_FRAME)
        if picture is None:
            step = _grid(Fraction(GRID_SECONDS), rate)
            step = max(step, -(-end // MAX_SEGMENTS))
            begins = list(range(0, end, step))
        else:
            cuts = picture.times[1:-1].tolist()
            begins = [0, *(_grid(Fraction(time, picture.timescale), rate) for time in cuts)]
        frames = np.unique(np.array([*(one for one in begins if one < end), max(end, 1)], np.int64))
        times = frames * SOUND_FRAME
        configuration = elementary_stream_box(MPEG4_AUDIO, write_audio_specific_config(2, rate, 2))
        # ISO/IEC 14496-12 §12.2.3: two channels of 16 bits, and the sample rate in 16.16
        fixed = struct.pack(">8x8xHH4xI", 2, 16, rate << 16)
        entry = SampleEntry(b"mp4a", "mp4a.40.2", fixed, (configuration,), channels=2, sample_rate=rate)
        facts = TrackFacts(1, b"soun", rate, entry.render())
        name = f"{source.name}{ENCODED_SOUND}"
        seconds = np.diff(times) / rate
        sizes = np.ceil(seconds * SOUND_BITRATE * float(SOUND_BOUND) / 8 + SEGMENT_OVERHEAD).astype(np.int64)
        return replace(
            source,
            name=name,
            track_id=1,
            entry=entry,
            timescale=rate,
            cuts=times,
            sizes=sizes,
            times=times,
            # The encoder's first frame is heard before the sound begins.
            init=write_init_segment(facts, media_start=SOUND_FRAME),
            delay=0,
            bitrate=SOUND_BITRATE,
            is_bounded=True,
            unit=SOUND_FRAME,
            version=_version(self.encoder, index.version, name),
        )


NO_RENDITIONS = EncodedRenditions("off")


def find_rendition(index: FileIndex, name: str) -> EncodedRendition | None:
    """Find one of a film's renditions by the name in its address."""
    track = index.track(name)
    if track is None or not track.is_encoded:
        return None
    sources = (index.video, *index.sounds, *index.only_encoded)
    wanted = None if track.video else name.removesuffix(ENCODED_SOUND)
    source = next(
        one for one in sources if one is not None and one.video == track.video and wanted in (None, one.name)
    )
    shown = enumerate(index.picture_subtitles, 1)
    whole = name.removesuffix(ONLY_I_FRAMES)
    subtitles = next((one for number, one in shown if whole.endswith(SUBTITLED.format(number))), None)
    return EncodedRendition(track, source, index.version.name, subtitles)


def renditions_of(mode: Mode, tools: Tools) -> EncodedRenditions:
    """Return the renditions that an ffmpeg encodes.

    Raises:
        ToolsError: the ffmpeg lacks an encoder or a filter.
    """
    filters = ("yadif", "trim", "crop", "scale", "overlay", "aresample")
    tools.require("the encoding of films", encoders=("libx264", "aac"), filters=filters)
    return EncodedRenditions(mode, tools.version, maps_hdr=not tools.missing(filters=HDR_FILTERS))


def _version(encoder: str, film: MediaVersion, name: str, profile: str = "") -> MediaVersion:
    facts = repr((ENCODING, f"{encoder} {profile}".strip(), film.name, name))
    return MediaVersion(hashlib.blake2s(facts.encode(), digest_size=6).hexdigest(), film.changed)


def _seen_size(track: OfferedTrack) -> tuple[int, int]:
    """Return width and height of a picture in square pixels, as it is seen."""
    across, down = track.entry.pixel_aspect
    width, height = (max(one, 1) for one in track.entry.shown_pixels)
    if across > down:
        width = max(1, round(Fraction(width * across, down)))
    else:
        height = max(1, round(Fraction(height * down, across)))
    return (width, height) if track.rotation in (0, 180) else (height, width)


def _encoded_colour(source: OfferedTrack) -> Colour | None:
    """Return the colours of encoded pictures: the source's, unless that is in HDR or may be in RGB."""
    entry = source.entry
    told = entry.colour or Colour()
    if told.video_range != "SDR":
        return _BT709
    if told.matrix != RGB and (OTHER_CODECS.get(entry.kind) or codec_of_fourcc(entry.kind)) not in RGB_CODECS:
        # Of smaller pictures without a matrix, players take another one.
        return entry.taken_colour
    primaries, transfer = (BT709 if one == UNSPECIFIED else one for one in (told.primaries, told.transfer))
    return Colour(
        primaries, transfer, told.matrix if told.matrix in MATRICES else usual_matrix(entry.shown_pixels)
    )


def _scaled(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Return even numbers of pixels, the shorter side of which is given."""
    ratio = Fraction(shorter, min(size))
    width, height = (max(2, 2 * round(one * ratio / 2)) for one in size)
    return width, height


def _bitrate(source: OfferedTrack, size: tuple[int, int], height: int) -> int:
    """Return the largest bit rate of a rendition: by its size, and by no more than the source has for it."""
    nearest = next((rate for rung, rate in reversed(RUNGS) if rung >= height), RUNGS[0][1])
    rate = nearest * 3 // 2 if source.frame_rate > HIGH_FRAME_RATE else nearest
    if not source.plays_everywhere:
        return rate
    width, tall = _seen_size(source)
    share = (size[0] * size[1] / (width * tall)) ** 0.75
    return min(rate, max(int(peak_bandwidth(source) * share), rate // 8))


def _level(size: tuple[int, int], frame_rate: Fraction) -> int:
    """Return the level of H.264 times ten that a picture needs."""
    across, down = (-(-side // MACROBLOCK) for side in size)
    blocks = across * down
    fitting = (
        level for level, per_second, most in LEVELS if blocks <= most and blocks * frame_rate <= per_second
    )
    return next(fitting, LEVELS[-1][0])


def _segment_times(source: OfferedTrack) -> Int64:
    """Return when segments of pictures begin, and behind them the end, in ticks of the source."""
    if source.longest <= LONGEST_COPIED * source.timescale:
        return source.times
    step = GRID_SECONDS * source.timescale
    end, begin = int(source.times[-1]), int(source.times[0])
    step = max(step, -(-(end - begin) // MAX_SEGMENTS))
    # Each segment begins with the first picture of its stretch of the grid; stretches without one have none.
    found: dict[int, int] = {}
    for start, stop in stretches(0, len(source.samples)):
        times = source.samples.times(start, stop)
        times = times[times >= begin]
        places = (times - begin) // step
        for place in np.unique(places).tolist():
            first = int(times[places == place].min())
            found[place] = min(found.get(place, first), first)
    return np.array([*sorted(found.values()), end], np.int64)


def _sound_rate(rate: int) -> int:
    return SOUND_RATES[1] if rate and SOUND_RATES[1] % rate == 0 else SOUND_RATES[0]


def _grid(seconds: Fraction, rate: int) -> int:
    """Return the number of the AAC frame that begins nearest to a time."""
    return round(seconds * rate / SOUND_FRAME)


def levels_of(codec: str) -> tuple[str, int]:
    """Return ffmpeg's name of the profile of a codec's string, and the level times ten."""
    return "high", int(codec[-2:], 16)
