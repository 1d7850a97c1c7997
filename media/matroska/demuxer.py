"""Demuxes live Matroska and WebM (RFC 9559) into packets, without I/O.

The first video and the first audio track are demuxed: H.264, HEVC, AV1 or VP9, and AAC, Opus, FLAC, AC-3 or
E-AC-3. Blocks have presentation times; those of decoding are derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from media.errors import MalformedError, MediaError, UnsupportedError
from media.matroska.blocks import lace_sizes
from media.matroska.decode_times import DecodeTimes, PresentedFrame
from media.matroska.element_ids import TRACKS as TRACKS_ELEMENT
from media.matroska.live_elements import (
    BLOCKS,
    ELEMENT_BYTES,
    LiveBlock,
    LiveElement,
    LiveElementReader,
    ticks_of,
)
from media.matroska.sample_entries import CodecFacts, codec_facts
from media.matroska.tracks import AUDIO, FOUR_CCS, VIDEO, MatroskaTrack, parse_tracks
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.codecs.sequence_parameters import avc_parameters, hevc_parameter_sets, hevc_parameters
from media.mp4.movie.track_box import turning_matrix
from media.packets import Packet, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE

_SECOND = 10**9
"""Nanoseconds of a second."""

_LONGEST_FRAME = _SECOND
"""Nanoseconds; a track that says that its frames are longer is wrong."""

_KINDS = {VIDEO: TrackKind.VIDEO, AUDIO: TrackKind.AUDIO}
_HEVC_SEQUENCE = 33


class MatroskaDemuxer:
    """Demuxes one live stream, without I/O."""

    def __init__(self, element_bytes: int = ELEMENT_BYTES) -> None:
        self._elements = LiveElementReader(element_bytes)
        self._tracks_element = b""
        self._tracks: Mapping[int, _VideoTrack | _AudioTrack] = {}

    @property
    def has_sound(self) -> bool:
        """Whether the stream has said that it has sound."""
        return any(isinstance(one, _AudioTrack) for one in self._tracks.values())

    def receive_data(self, data: bytes) -> list[Packet]:
        """Parse the next bytes.

        Returns:
            The packets that they complete, of each track in the order of decoding.

        Raises:
            MalformedError: the bytes are no such stream, or its times go back.
            UnsupportedError: it has other codecs, or no video, or is encrypted or compressed.
            TooLargeError: a limit is exceeded.
        """
        found = list[Packet]()
        for element in self._elements.receive_data(data):
            if element.kind in BLOCKS:
                block = self._elements.block(element)
                track = self._tracks.get(block.track)
                if track is not None:
                    track.push(block, frames_of(block, element), found)
            elif element.kind == TRACKS_ELEMENT and element.whole != self._tracks_element:
                self._tracks_element = element.whole
                self._tracks = _chosen(parse_tracks(element.whole[element.payload :]))
        return found


def frames_of(block: LiveBlock, element: LiveElement) -> list[bytes]:
    """Return the frames of a block, of which lacing (§10.3) allows several; empty ones are left out.

    Raises:
        MalformedError: the sizes of laced frames contradict the block's.
    """
    whole, at = element.whole, block.begin
    if not block.lacing:
        return [whole[at : block.end]] if at < block.end else []
    try:
        sizes, at = lace_sizes(whole[: block.end], at, block.lacing, block.end)
    except IndexError:
        raise MalformedError("a block whose lacing is cut off") from None
    frames = list[bytes]()
    for size in sizes:
        if size:
            frames.append(whole[at : at + size])
        at += size
    return frames


def _chosen(tracks: tuple[MatroskaTrack, ...]) -> Mapping[int, _VideoTrack | _AudioTrack]:
    """Return the tracks that are demuxed, by number."""
    video = next((one for one in tracks if one.kind == VIDEO), None)
    audio = next((one for one in tracks if one.kind == AUDIO), None)
    if video is None:
        raise UnsupportedError("no video")
    for one in (video, audio):
        if one is not None and one.codec not in FOUR_CCS:
            raise UnsupportedError(f"codec {one.codec!r} isn't one that can be demuxed")
    heard = {} if audio is None else {audio.number: _AudioTrack(audio)}
    return {video.number: _VideoTrack(video), **heard}


class _VideoTrack:
    """The packets of the video track, from the first key frame on."""

    def __init__(self, told: MatroskaTrack) -> None:
        self._told = told
        self._track: StreamTrack | None = None
        self._times = _decode_times(told)

    def push(self, block: LiveBlock, frames: list[bytes], found: list[Packet]) -> None:
        """Add a block's frames, and append the packets that are known then."""
        told, time = self._told, ticks_of(block.nanoseconds)
        for data in frames:
            frame = told.stripped + data
            if self._track is None:
                if not block.is_key:
                    continue
                self._track = _stream_track(told, codec_facts(told, frame, _frame_rate(told)))
            for dts, one in self._times.push(PresentedFrame(time, block.is_key, frame)):
                found.append(Packet(self._track, dts, one.pts, one.is_key, one.data))


class _AudioTrack:
    """The packets of the audio track."""

    def __init__(self, told: MatroskaTrack) -> None:
        self._told = told
        self._track: StreamTrack | None = None
        # Nanoseconds of a frame, of which a laced block has several.
        self._lasts = 0

    def push(self, block: LiveBlock, frames: list[bytes], found: list[Packet]) -> None:
        """Append the packets of a block's frames."""
        told = self._told
        # §5.1.4.1.24: the decoder's output before the intended audio.
        nanoseconds = block.nanoseconds - told.codec_delay
        for data in frames:
            frame = told.stripped + data
            if self._track is None:
                facts = codec_facts(told, frame, 0.0)
                self._track = _stream_track(told, facts)
                self._lasts = facts.frame_samples * _SECOND // facts.rate
                if 0 < told.default_duration <= _LONGEST_FRAME:
                    self._lasts = told.default_duration
            time = ticks_of(nanoseconds)
            found.append(Packet(self._track, time, time, is_key=True, data=frame))
            nanoseconds += self._lasts


def _stream_track(told: MatroskaTrack, facts: CodecFacts) -> StreamTrack:
    """Describe a track by its header, and what its first frame says.

    Raises:
        MediaError: the track can't be demuxed.
    """
    codec, configuration = FOUR_CCS[told.codec], told.private
    if codec == "mp4a" and not configuration:
        raise UnsupportedError("AAC without its configuration")
    if codec == "vp09":
        # Matroska has no configuration of VP9, but the colours beside it.
        configuration = parse_sample_entry(facts.sample_entry).payload(b"vpcC")
    width, height = told.pixels
    across, down = told.display
    is_square = not all((width, height, across, down)) or across * height == down * width
    return StreamTrack(
        _KINDS[told.kind],
        codec,
        configuration,
        channels=told.channels,
        pixels=told.pixels,
        frame_rate=_frame_rate(told),
        pixel_aspect=None if is_square else (across * height, down * width),
        matrix=turning_matrix(told.rotation, told.shown_size, is_mirrored=told.is_mirrored)
        if told.rotation or told.is_mirrored
        else b"",
    )


def _frame_rate(told: MatroskaTrack) -> float:
    is_told = 0 < told.default_duration <= _LONGEST_FRAME
    return _SECOND / told.default_duration if is_told and told.kind == VIDEO else 0.0


def _decode_times(told: MatroskaTrack) -> DecodeTimes:
    """Return what derives the decode times of a video track, by what its configuration says."""
    depth: int | None = None
    duration = Fraction(told.default_duration * CLOCK_RATE, _SECOND)
    if FOUR_CCS[told.codec] in ("av01", "vp09"):
        # A temporal unit of AV1, or a superframe of VP9, shows one picture, in the order of decoding.
        depth = 0
    else:
        try:
            depth, rate = _reordering(told)
            if rate and not duration:
                duration = CLOCK_RATE / rate
        except MediaError:
            # The muxer reads the configuration, too, and raises the error.
            pass
    return DecodeTimes(depth, duration if 0 < duration <= CLOCK_RATE else None)


def _reordering(told: MatroskaTrack) -> tuple[int | None, Fraction | None]:
    """Return how far pictures are reordered, and the frame rate, by the first sequence parameter set."""
    if FOUR_CCS[told.codec] == "hvc1":
        unit = next((unit for kind, unit in hevc_parameter_sets(told.private) if kind == _HEVC_SEQUENCE), b"")
        parameters = hevc_parameters(unit)
    else:
        # ISO/IEC 14496-15 §5.3.3.1.
        size = int.from_bytes(told.private[6:8], "big")
        parameters = avc_parameters(told.private[8 : 8 + size])
    return parameters.reordering, parameters.frame_rate
